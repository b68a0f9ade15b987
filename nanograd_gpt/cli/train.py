"""Train a GPT, from scratch or from weights.

Metrics, samples, figures and checkpoints go to a run's directory.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from ..anomaly import detect_anomaly
from ..arguments import not_allowed
from ..errors import InputError, NonFiniteError, RunError, did_you_mean
from ..files import writing_named
from ..gpt.model import GPTModel
from ..parallel.mpi_ranks import WAIT_LIMIT, MPIRanks
from ..parallel.ranks import Command, Ranks
from ..tokenizer.tokenizer import save_tokenizer
from ..training.background import Background
from ..training.checkpoint_clock import CheckpointClock
from ..training.disk_space import check_disk_space
from ..training.find_checkpoint import recover_checkpoints
from ..training.following import start_ranks
from ..training.loop import StepResult, sample_line
from ..training.metrics import MetricsLog, read_metrics
from ..training.run import Run
from ..training.run_directory import SURPRISE, best_checkpoint, checkpoints, delete_needless, new_directory
from ..training.run_lock import new_run, run_lock, was_never_begun
from ..training.run_settings import SAFE, keep_damaged
from ..training.samples import append_sample, cut_samples
from ..training.snapshots import Snapshots, cut_snapshots
from ..training.surprise import write_surprise
from ..training.tale_test import score_line
from .figures import check_figures, write_figures
from .gpu_memory import gpu_memory_named
from .header import print_header
from .options import add_device, add_settings, add_weights, device_from, note, user_path
from .resume import TOKENIZER, Resumption, complete_line, resume_command, resumption_from, run_directory
from .signals import CLOSED_PIPE, ONCE_IN, Signals, name_of
from .step_log import StepLog
from .terminal import escaped
from .unused import note_unused_settings
from .weights import plan_from

GRAPH = ["auto", "off"]
MOST_WAIT = 86_400  # seconds


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="DIRECTORY",
        help="directory of the run [runs/PRESET, runs/book or runs/fine-tuning; runs/PRESET-2 and so on if it exists]",
    )
    parser.add_argument(
        "--resume", type=user_path, metavar="RUN", help="resume a run from its last checkpoint [a new run]"
    )
    parser.add_argument(
        "--allow-mismatch",
        action="store_true",
        help=(
            "resume although config.toml, an option or the text differs from the checkpoint in what is safe to change: "
            f"the text, {', '.join(name for name in SAFE if name != 'data')}"
        ),
    )
    parser.add_argument("--dry-run", action="store_true", help="print parameters, memory and expected time, then exit")
    add_weights(parser)
    machine = add_device(parser)
    machine.add_argument(
        "--graph",
        metavar="NAME",
        default="auto",
        help="auto (updates on a GPU are replayed from a CUDA graph, with the same bits) or off [auto]",
    )
    machine.add_argument(
        "--detect-anomaly",
        action="store_true",
        help="stop at the first operation that makes finite numbers nan or infinite, and name it; slower",
    )
    machine.add_argument(
        "--shard-optimizer",
        action="store_true",
        help="with several ranks, each holds AdamW's state of its part of the parameters alone: less memory, more sent",
    )
    machine.add_argument(
        "--rank-timeout",
        type=float,
        metavar="SECONDS",
        default=WAIT_LIMIT,
        help="with several ranks, end the run when one does not answer for so long [%(default)g]",
    )
    add_settings(parser)


def run(options: Namespace) -> int:
    if options.graph not in GRAPH:
        raise InputError(f"--graph: {options.graph!r} is unknown{did_you_mean(options.graph, GRAPH)}")
    if not 0 < options.rank_timeout <= MOST_WAIT:
        raise not_allowed("rank_timeout", options.rank_timeout, f"a number > 0, at most {MOST_WAIT:,}")
    if options.shard_optimizer:
        _shard(options.ranks)
    if not options.resume:
        if options.allow_mismatch:
            raise InputError("allow_mismatch: a new run has no checkpoint to differ from; give it with --resume RUN")
        return _start(options)
    directory = run_directory(options.resume)
    if options.dry_run or not directory.is_dir():
        return _resume(options)
    with run_lock(directory):
        recover_checkpoints(directory)
        return _resume(options)


def _shard(ranks: Ranks) -> None:
    if isinstance(ranks, MPIRanks):
        ranks.sharded = True
    else:
        note("--shard-optimizer: this is the only process, so nothing is divided")


def _start(options: Namespace) -> int:
    device, plan = device_from(options), plan_from(options)
    _check_free(options.out or new_directory(Path("runs"), plan.name))
    training = Run(plan.config, device, plan.tokenizer, plan.vocab_size, ranks=options.ranks)
    _check_checkpoints(training)
    note_unused_settings(options, training)
    freed = 0 if plan.weights is None else _nbytes(plan.weights)
    if options.dry_run:
        with gpu_memory_named(training.config):
            directory = options.out or new_directory(Path("runs"), plan.name)
            print_header(training, directory, freed=freed)
            _note_no_room(training, directory)
        return 0
    with gpu_memory_named(training.config), new_run(options.out, plan.name) as directory:
        print_header(training, directory, freed=freed)
        if plan.weights is not None:
            training.init_from(plan.weights)
        del plan  # free this copy of the weights
        training.preflight(directory)
        with writing_named(directory):
            training.save_settings(directory)
            training.save(directory)  # so that a run that dies before its first checkpoint can be resumed too
        return _train_and_draw(training, directory, options)


def _check_checkpoints(training: Run) -> None:
    """Raise InputError if several ranks are to train without checkpoints: any of them can fail."""
    t = training.config.training
    if training.ranks.size > 1 and not t.checkpoint_every and not t.checkpoint_minutes:
        raise InputError(
            "checkpoint_minutes: 0 is not allowed with several ranks and checkpoint_every = 0, since the run ends when "
            "any of them fails; give --checkpoint-minutes or --checkpoint-every"
        )


def _note_no_room(training: Run, directory: Path) -> None:
    """Note, in a dry run, that the disk has too little space for the checkpoints."""
    try:
        check_disk_space(directory, training.config, training.total_steps)
    except RunError as error:
        note(str(error))


def _nbytes(model: GPTModel) -> int:
    """Bytes of a model's parameters."""
    return sum(int(p.data.nbytes) for p in model.parameters())


def _check_free(directory: Path) -> None:
    """Raise InputError if a directory is taken or under a file; with the way to resume, if a run is there."""
    file = next((path for path in directory.parents if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise InputError(f"out: {directory} cannot be created, since {file} is a file; give another directory")
    taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    if taken and not was_never_begun(directory):
        resume = f", or resume with --resume {quote(str(directory))}" if checkpoints(directory) else ""
        raise InputError(f"out: {directory} exists already; give a new directory{resume}")


def _resume(options: Namespace) -> int:
    plan = resumption_from(options)
    for text in plan.notes:
        note(text)
    with gpu_memory_named(plan.run.config, otherwise=", or resume this one with --device cpu"):
        if plan.is_complete:
            print(complete_line(plan.run, plan.directory))
        else:
            print_header(plan.run, plan.directory, plan.done, plan.rate)
        if options.dry_run:
            _note_no_room(plan.run, plan.directory)
            return 0
        if plan.is_complete and has_ended(plan.directory):
            if not plan.mismatched:  # no checkpoint is written that would agree
                _save_changes(plan, options)
            delete_needless(plan.directory, plan.done - 1, plan.run.config.training.keep, note)
            return 0
        plan.run.load(plan.checkpoint, plan.mismatched)
        plan.run.preflight(plan.directory)
        with writing_named(plan.directory, f"then resume with: {resume_command(plan.directory)}"):
            cut_samples(plan.directory, plan.run.progress.global_step)
            cut_snapshots(plan.directory, plan.run.progress.global_step)
            _save_changes(plan, options)
            if plan.mismatched:
                plan.run.save(plan.directory)  # so that the next --resume finds settings and text as they are now
        print(f"resuming from {plan.checkpoint}")
        return _train_and_draw(plan.run, plan.directory, options)


def has_ended(directory: Path) -> bool:
    """Whether a run was not only trained to its end, but also wrote what follows: its end was not cut short."""
    return read_metrics(directory / "metrics.jsonl").end is not None and (directory / SURPRISE).is_file()


def _save_changes(plan: Resumption, options: Namespace) -> None:
    """Make the path of the text and the settings that were given the run's own, and restore a lost tokenizer."""
    if options.data or plan.mismatched:
        plan.run.save_data_path(plan.directory)
    if plan.new_tokenizer:
        save_tokenizer(plan.run.tokenizer, plan.directory / TOKENIZER)
    if plan.new_config:
        keep_damaged(plan.directory)
        plan.run.save_config(plan.directory)


def _train_and_draw(training: Run, directory: Path, options: Namespace) -> int:
    with writing_named(directory, f"then resume with: {resume_command(directory)}"):
        check_figures(directory)
        try:
            with detect_anomaly() if options.detect_anomaly else nullcontext():
                start_ranks(training, options.rank_timeout)
                stopped_by = _train(training, directory, options.graph == "auto" and not options.detect_anomaly)
                training.ranks.lead(Command.END, code=128 + stopped_by if stopped_by else 0)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; go on from the last checkpoint with: {resume_command(directory)}"
            ) from None
        if stopped_by == CLOSED_PIPE:  # nobody reads
            return 128 + CLOSED_PIPE
        if (best := _best_line(training, directory)) is not None:
            print(best)
        if (tales := read_metrics(directory / "metrics.jsonl").tales) and not stopped_by:
            print(score_line(tales[-1]))
        Snapshots(training, directory).take()
        write_surprise(training, directory)
        for path in write_figures(directory):
            print(f"wrote {path}")
    if stopped_by:
        print(f"stopped by {name_of(stopped_by)}; resume with: {resume_command(directory)}")
        return 128 + stopped_by
    return 0


def _train(training: Run, directory: Path, replay: bool) -> int | None:
    """Run the loop to its end or to a signal, whose number is returned; write a checkpoint in either case.

    A closed output ends it as SIGPIPE would.
    """
    t, data = training.config.training, training.config.data
    first, started = training.progress.global_step, perf_counter()
    facts = {
        "time": datetime.now(UTC).isoformat(),
        "resumed_from": first,
        "n_parameters": training.config.model.n_parameters,
        "ranks": training.ranks.size,
        "tokens_per_epoch": len(training.train_loader) * data.batch_size * training.config.model.context_length,
    }
    with (
        MetricsLog(directory / "metrics.jsonl") as log,
        tqdm(  # on a terminal only
            total=training.total_steps,
            initial=first + 1,
            unit="step",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        ) as bar,
        Signals(lambda line: bar.write(line, file=sys.stderr), ONCE_IN if training.ranks.size > 1 else 0.0) as signals,
        Background() as beside,
        _best_kept(training, directory, beside),
        np.errstate(all="ignore"),  # a loss that is not finite ends the run with one line
    ):
        log.write("start", **facts)
        if t.weights and first < 0:
            _evaluate_weights(training, log, bar)
        updates, snapshots = StepLog(log, bar, training), Snapshots(training, directory)

        def told(text: str) -> None:
            bar.write(f"note: {escaped(text)}", file=sys.stderr)

        clock = CheckpointClock(t.checkpoint_minutes, training.saving_seconds)
        for report in training.steps(told if replay else None):
            with signals.closed_pipe():
                updates.add(report, perf_counter() - started)
            if report.evaluation is not None and snapshots.is_due(report.global_step):
                snapshots.take()
            if training.progress.best_step == report.global_step:
                training.keep_best()
            if report.epoch_ended and (report.epoch % t.sample_every == 0 or report.epoch == t.epochs):
                updates.flush()
                with signals.closed_pipe():
                    _sample(training, report, log, directory, bar)
            if clock.is_due() or (t.checkpoint_every and (report.global_step + 1) % t.checkpoint_every == 0):
                updates.flush()  # so that a loss that is not finite ends the run before its weights are saved
                with clock.saving():
                    training.save(directory, beside, told)
            if signals.received or training.ranks.signal:
                break
        updates.flush()
        training.save(directory, beside, told)
        if training.evaluates_at_end and not _is_evaluated(directory, training.progress.global_step):
            _evaluate_end(training, updates)
        beside.wait()
        training.save_best(directory)
        log.write("end", steps=training.progress.global_step + 1, seconds=round(perf_counter() - started, 3))
    return signals.received or training.ranks.signal


@contextmanager
def _best_kept(training: Run, directory: Path, beside: Background) -> Iterator[None]:
    """Write the best weights kept so far where training ends with nan or infinity, which resuming would only repeat."""
    try:
        yield
    except NonFiniteError:
        beside.wait()
        training.save_best(directory)
        raise


def _is_evaluated(directory: Path, step: int) -> bool:
    """Whether an evaluation followed update `step`; -1 is before the first."""
    return step < 0 or any(event["step"] == step for event in read_metrics(directory / "metrics.jsonl").evaluations)


def _evaluate_end(training: Run, updates: StepLog) -> None:
    """Evaluate after the last update, and keep its weights if they are the best."""
    progress, evaluation = training.progress, training.evaluate()
    epoch = progress.epoch + (progress.batch > 0)
    updates.add_evaluation(evaluation, step=progress.global_step, epoch=epoch, tokens=progress.tokens_seen)
    if progress.best_step == progress.global_step:
        training.keep_best()


def _best_line(training: Run, directory: Path) -> str | None:
    """The lowest validation loss and how to use its weights; None if the run ended with it."""
    evaluations = read_metrics(directory / "metrics.jsonl").evaluations
    best = training.progress
    if best.best_step is None or (evaluations and best.best_step == evaluations[-1]["step"]):
        return None
    epoch = best.best_step // training.steps_per_epoch + 1
    weights = best_checkpoint(directory)
    use = (
        f"nanograd-gpt generate {quote(str(weights))}"
        if weights.is_dir()
        else f"its weights are not at {weights} any more"
    )
    return f"lowest validation loss {best.best_val_loss:.3f} at step {best.best_step} (epoch {epoch}): {use}"


def _evaluate_weights(training: Run, log: MetricsLog, bar: Any) -> None:
    """Log and print the losses before the first update."""
    evaluation = training.evaluate_weights()
    log.write("evaluation", step=-1, epoch=0, tokens=0, **evaluation._asdict())
    losses = f"Train loss {evaluation.train_loss:.3f}, Val loss {evaluation.val_loss:.3f}"
    bar.write(f"As loaded: {losses}", file=sys.stdout)


def _sample(training: Run, report: StepResult, log: MetricsLog, directory: Path, bar: Any) -> None:
    text = sample_line(training.model, training.tokenizer, training.config.training.prompt)
    bar.write("".join(c if c.isprintable() else " " for c in text), file=sys.stdout)
    log.write("sample", step=report.global_step, epoch=report.epoch, text=text)
    append_sample(directory, report.epoch, report.global_step, text)
