"""Train a GPT, from scratch or from weights: metrics, samples, figures and checkpoints go to a run's directory."""

from __future__ import annotations

import math
import signal
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from ..bench.estimate import memory_bytes, step_seconds
from ..errors import InputError, RunError
from ..gpt.model import GPTModel
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import get_tokenizer
from ..training.checkpoint import read_state
from ..training.config import from_toml, preset
from ..training.loop import StepResult, evaluation_line, sample_line
from ..training.loss import evaluate_model
from ..training.metrics import MetricsLog
from ..training.run import Run
from ..training.run_directory import latest_checkpoint, new_directory, step_of
from ..training.schedule import Flat
from ..training.text_of_run import check_text, find_text
from .figures import check_figures, write_figures
from .info import gigabytes
from .options import add_device, add_settings, add_weights, device_from, given_settings, user_path
from .weights import plan_from


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="DIRECTORY",
        help="directory of the run [runs/PRESET, runs/book or runs/fine-tuning; if taken, with -2 ...]",
    )
    parser.add_argument("--resume", type=user_path, metavar="RUN", help="resume a run from its last checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print parameters, memory and expected time, then exit")
    add_weights(parser)
    add_device(parser)
    add_settings(parser)


def run(options: Namespace) -> int:
    training, directory, start = _resumed(options) if options.resume else _new(options)
    rate = _change_length(training, start, options) if isinstance(start, Path) else None
    _print_header(training, directory, rate)
    if options.dry_run:
        return 0
    if isinstance(start, Path):
        training.load(start)
        training.rehearse(directory)
        if options.data:
            training.save_place_of_text(directory)
        print(f"resuming after step {training.progress.global_step}, from {start}")
        if given_settings(options) and training.total_steps > training.progress.global_step + 1:
            training.save_config(directory)  # the new length becomes the run's own
    else:
        if start is not None:
            training.init_from(start)
        training.rehearse(directory)
        training.save_settings(directory)
    del start  # free this copy of the weights
    check_figures(directory)
    stopped_by = _train(training, directory)
    for path in write_figures(directory):
        print(f"wrote {path}")
    if stopped_by:
        print(f"stopped by {stopped_by}; resume with: nanograd-gpt train --resume {directory}")
        return 130
    return 0


def _new(options: Namespace) -> tuple[Run, Path, GPTModel | None]:
    """A new run, its directory, and its initial weights, if any."""
    plan, device = plan_from(options), device_from(options)
    directory: Path = options.out or new_directory(Path("runs"), plan.name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"out: {directory} exists already; give a new directory, or resume with --resume {directory}")
    return Run(plan.config, device, plan.tokenizer, plan.vocab_size), directory, plan.weights


def _resumed(options: Namespace) -> tuple[Run, Path, Path]:
    """The run to resume, its directory, and its last checkpoint."""
    directory: Path = options.resume
    given = given_settings(options)
    for name in given:
        if name not in ("epochs", "max_steps", "decay_steps", "data"):
            raise InputError(
                f"resume: {name} is fixed by the run; only --epochs, --max-steps and --decay-steps can be changed, "
                "and --data if the text has moved"
            )
    if options.out or options.config or options.preset or options.book:
        raise InputError("resume: the run's own settings are used; leave out --out, --config, --preset and --book")
    checkpoint = latest_checkpoint(directory)
    config = preset("tiny").replace(from_toml(directory / "config.toml"))
    config = config.replace({"data": _text_of(directory, checkpoint, config.data.data, given.get("data"))})
    tokenizer = get_tokenizer(directory / "tokenizer.json")
    training = Run(config, device_from(options), tokenizer, config.model.vocab_size)
    return training, directory, checkpoint


def _text_of(directory: Path, checkpoint: Path, data: str, given: str | None) -> str:
    """The current path of a run's text: --data, which must be the same text, or where it is found."""
    expected = read_state(checkpoint).get("data_sha256")
    if given is None:
        return find_text(directory, data, expected, f"give its path: train --resume {directory} --data PATH")
    check_text(directory, given, expected)
    return given


def _change_length(training: Run, checkpoint: Path, options: Namespace) -> str | None:
    """Change a run's length as requested; returns the learning rate's course if it differs from the plan."""
    plan, planned_steps = training.schedule, training.total_steps
    training.change_length({name: n for name, n in given_settings(options).items() if name != "data"})
    schedule, first, last = training.schedule, step_of(checkpoint) + 1, training.total_steps - 1
    unchanged = schedule == plan and training.total_steps == planned_steps
    if isinstance(schedule, Flat) or unchanged or first > last:
        return None
    course = f"from {schedule(first):.3g} at update {first} to {schedule(last):.3g} at update {last}"
    if schedule == plan:
        decay_steps = training.config.training.decay_steps
        return f"{course}, as planned for {decay_steps} updates; --decay-steps 0 stretches the plan over all {last + 1}"
    return f"{course}; the last rate was {plan(first - 1):.3g}, the next one planned {plan(first):.3g}"


def _print_header(training: Run, directory: Path, rate: str | None) -> None:
    model, data, t = training.config.model, training.config.data, training.config.training
    batches = len(training.train_loader), len(training.val_loader)
    tokens = data.batch_size * model.context_length * t.accumulate
    seconds = training.total_steps * step_seconds(model, tokens, training.device)
    print(
        f"model       {model.n_layers} layers, {model.emb_dim} channels, {model.n_heads} heads, "
        f"context {model.context_length}: {model.n_parameters:,} parameters"
    )
    print(
        f"data        {data.data}: {len(training.text):,} characters, vocabulary {_vocabulary(training)}; "
        f"{batches[0]} batches of {data.batch_size} to train on, {batches[1]} to validate"
    )
    if t.weights:
        print(f"weights     {t.weights}")
    print(f"training    {training.total_steps} updates in {t.epochs} epochs on {training.device}, seed {t.seed}")
    if rate is not None:
        print(f"rate        {rate}")
    print(f"expected    {gigabytes(memory_bytes(model, data.batch_size))} of memory, about {_duration(seconds)}")
    print(f"directory   {directory}", flush=True)


def _vocabulary(training: Run) -> str:
    V = training.config.model.vocab_size
    padding = len(padding_ids(training.tokenizer, V))
    return f"{V - padding:,} padded to {V:,}" if padding else f"{V:,}"


def _train(training: Run, directory: Path) -> str | None:
    """Run the loop to its end or to a signal, whose name is returned; write a checkpoint in either case."""
    t, data = training.config.training, training.config.data
    first, started = training.progress.global_step, perf_counter()
    facts = {
        "time": datetime.now(UTC).isoformat(),
        "resumed_from": first,
        "n_parameters": training.config.model.n_parameters,
        "tokens_per_epoch": len(training.train_loader) * data.batch_size * training.config.model.context_length,
    }
    with (
        MetricsLog(directory / "metrics.jsonl") as log,
        Signals() as signals,
        tqdm(  # on a terminal only
            total=training.total_steps,
            initial=first + 1,
            unit="step",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        ) as bar,
        np.errstate(all="ignore"),  # a loss that is not finite ends the run with one line
    ):
        log.write("start", **facts)
        if t.weights and first < 0:
            _evaluate_weights(training, log, bar)
        for report in training.steps():
            _record(report, log, bar, perf_counter() - started)
            if report.epoch_ended and (report.epoch % t.sample_every == 0 or report.epoch == t.epochs):
                _sample(training, report, log, directory, bar)
            if t.checkpoint_every and (report.global_step + 1) % t.checkpoint_every == 0:
                training.save(directory)
            if signals.received:
                break
        training.save(directory)
        log.write("end", steps=training.progress.global_step + 1, seconds=round(perf_counter() - started, 3))
    return signals.received


def _evaluate_weights(training: Run, log: MetricsLog, bar: Any) -> None:
    """Log and print the losses before the first update."""
    eval_iter = training.config.training.eval_iter
    loaders = training.train_loader, training.val_loader
    evaluation = evaluate_model(training.model, *loaders, training.device, eval_iter)
    log.write("evaluation", step=-1, epoch=0, tokens=0, **evaluation._asdict())
    losses = f"Train loss {evaluation.train_loss:.3f}, Val loss {evaluation.val_loss:.3f}"
    bar.write(f"As loaded: {losses}", file=sys.stdout)


def _record(report: StepResult, log: MetricsLog, bar: Any, seconds: float) -> None:
    """Log an update and print its evaluation.  Raises RunError if the loss is not finite."""
    loss = float(report.loss)
    where = {"step": report.global_step, "epoch": report.epoch, "tokens": report.tokens_seen}
    norm = None if report.grad_norm is None else float(report.grad_norm)
    log.write("step", **where, loss=loss, lr=report.lr, grad_norm=norm, seconds=round(seconds, 4))
    if not math.isfinite(loss):
        raise RunError(f"training: the loss is {loss} at step {report.global_step}; try a smaller --lr or --max-norm 1")
    if report.evaluation is not None:
        log.write("evaluation", **where, **report.evaluation._asdict())
        bar.write(evaluation_line(report.epoch, report.global_step, report.evaluation), file=sys.stdout)
    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    bar.update()


def _sample(training: Run, report: StepResult, log: MetricsLog, directory: Path, bar: Any) -> None:
    text = sample_line(training.model, training.tokenizer, training.config.training.prompt)
    bar.write("".join(c if c.isprintable() else " " for c in text), file=sys.stdout)
    log.write("sample", step=report.global_step, epoch=report.epoch, text=text)
    with (directory / "samples.txt").open("a", encoding="utf-8") as file:
        file.write(f"Epoch {report.epoch} (step {report.global_step}): {text}\n")


class Signals:
    """Record SIGINT and SIGTERM in this block instead of stopping, so that an update is never interrupted.

    A second signal raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
