"""The plan of a resumed run: its checkpoint, its text, and its new length, if one is given."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import tiktoken

from ..errors import InputError, counted
from ..tokenizer.tokenizer import get_tokenizer
from ..training.checkpoint import check_configuration, check_has_optimizer, read_state
from ..training.config import RunConfig
from ..training.find_checkpoint import find_checkpoint, is_checkpoint, run_of
from ..training.run import Run
from ..training.run_directory import best_checkpoint, checkpoints, step_of
from ..training.run_settings import LENGTH, SAFE, run_settings
from ..training.run_state import run_state
from ..training.run_text import check_text, find_text, text_hash
from ..training.schedule import Flat, Schedule
from .mismatch import accepted_settings, environment_note, other_text_note, restored
from .options import device_from, flag_of, given_settings

TOKENIZER = "tokenizer.json"
CHANGEABLE = (*LENGTH, "data")  # settings


class Resumption(NamedTuple):
    """A run as its last checkpoint left it, with the length it is to have."""

    run: Run
    directory: Path
    checkpoint: Path
    notes: list[str]
    done: int  # updates
    new_config: bool  # config.toml is to be written
    new_tokenizer: bool  # tokenizer.json is to be written
    mismatched: bool  # settings or the text are not the checkpoint's, as --allow-mismatch allows
    rate: str | None  # the learning rate's course, where a new length or another setting changes it

    @property
    def is_complete(self) -> bool:
        return self.done >= self.run.total_steps


def resumption_from(options: Namespace) -> Resumption:
    """Plan to resume the run that --resume names.

    Raises InputError for settings that the run fixes, a length shorter than what is done, a run that cannot be
    resumed, and a config.toml, a text or a tokenizer that is not the checkpoint's.
    """
    if options.out or options.config or options.preset or options.book:
        raise InputError("resume: the run's own settings are used; leave out --out, --config, --preset and --book")
    directory, (checkpoint, state, damaged) = run_directory(options.resume), find_checkpoint(options.resume)
    check_has_optimizer(checkpoint, state)
    own = run_state(checkpoint, state)
    if checkpoint == options.resume:
        _check_newest(directory, checkpoint, state)
    settings, allow = run_settings(directory, checkpoint, state), options.allow_mismatch
    given = _changes(given_settings(options), settings.config, allow)
    config, accepted = accepted_settings(settings, directory, checkpoint, given, allow)
    check_configuration(checkpoint, state, config.model)
    named = options.data or next((d.written for d in accepted if d.name == "data"), None)
    data = _text_of(directory, config.data.data, named, own.data_sha256, allow)
    tokenizer = _own_tokenizer(directory)
    saved, device = settings.saved.replace({"data": data}), device_from(options)
    run = Run(saved, device, tokenizer, config.model.vocab_size, ranks=options.ranks)
    run.check_resumable(checkpoint, own, allow)
    other_text = own.data_sha256 != text_hash(run.text)
    done = own.progress.global_step + 1
    plan, planned_steps = run.schedule, run.total_steps
    length = {name: value for name, value in given.items() if name in LENGTH}
    others = {name: value for name, value in given.items() if name not in CHANGEABLE}
    run.config = config.replace({**others, "data": data})
    run.change_length(length)
    if length and run.total_steps < done:
        lengths = " and ".join(f"{name} = {value}" for name, value in length.items() if name != "decay_steps")
        raise InputError(
            f"resume: {lengths or 'its length'} means {counted(run.total_steps, 'update')}, but {directory} has done "
            f"{done}; give more, or leave it out"
        )
    without_effect = _length_note(length, run, done)
    if run.total_steps <= done:  # nothing is trained, so that nothing is to be stored
        run.change_length({name: getattr(config.training, name) for name in length})
        given = {name: value for name, value in given.items() if name not in length}
    unchanged = run.schedule == plan and run.total_steps == planned_steps
    is_old = "settings" not in state
    return Resumption(
        run,
        directory,
        checkpoint,
        notes=[
            *(f"{damage}; {checkpoint} is used" for damage in damaged),
            *restored(settings, checkpoint, options.dry_run),
            *(
                []
                if tokenizer
                else [f"{directory / TOKENIZER} is lost or damaged; it is made again as the run made it"]
            ),
            *(f"{difference}; config.toml's is used from now on" for difference in accepted),
            *other_text_note(other_text, data, checkpoint),
            *environment_note(state.get("environment"), run, checkpoint),
            *without_effect,
        ],
        done=done,
        new_config=bool(accepted or given or other_text or settings.damage or is_old),
        new_tokenizer=tokenizer is None,
        mismatched=bool(accepted or others or other_text),
        rate=None if unchanged else _course(run, done, plan),
    )


def _changes(given: Mapping[str, Any], config: RunConfig, allow_mismatch: bool) -> dict[str, Any]:
    """The given settings that a run may change.  Raises InputError for another value of one that it fixes."""
    present = config.flat()
    changes = {name: value for name, value in given.items() if name in CHANGEABLE or value != present[name]}
    for name in changes:
        if name not in CHANGEABLE and not (allow_mismatch and name in SAFE):
            option = "--init-from" if name == "weights" else flag_of(name)
            remedy = "; add --allow-mismatch to change it all the same" if name in SAFE else ""
            raise InputError(
                f"resume: {option} is fixed by the run; only --epochs, --max-steps and --decay-steps can be changed, "
                f"and --data if the text has moved{remedy}"
            )
    return changes


def run_directory(path: Path) -> Path:
    """The directory of the run that --resume names, or names a checkpoint of.

    Raises InputError for a checkpoint that is not in a run.
    """
    directory = run_of(path)
    if directory == path and is_checkpoint(path):
        raise InputError(
            f"resume: {path} is a checkpoint, not a run, so its text and settings are unknown; give the directory of a "
            f"run, or start one from these weights with --init-from {quote(str(path))}"
        )
    return directory


def _own_tokenizer(directory: Path) -> tiktoken.Encoding | None:
    """The tokenizer that a run has saved; None if its file is lost or damaged.

    The run then makes it again from its text and settings, and checkpoints tell whether it is the same.
    """
    try:
        return get_tokenizer(directory / TOKENIZER)
    except InputError:
        return None


def _check_newest(directory: Path, checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Raise InputError if a run has intact checkpoints later than the one to go on from, which would replace them."""
    step = state["progress"]["global_step"]
    candidates = [path for path in checkpoints(directory) if step_of(path) > step] + [best_checkpoint(directory)]
    later = [path.name for path in candidates if _is_later(path, step)]
    if later:
        raise InputError(
            f"resume: {directory} has checkpoints later than {checkpoint.name}, which would be replaced: "
            f"{', '.join(later)}; resume the newest with --resume {quote(str(directory))}, or to go back, first move "
            f"the later ones out of {directory / 'checkpoints'}"
        )


def _is_later(checkpoint: Path, step: int) -> bool:
    """Tell whether an intact checkpoint is there, from after an update."""
    try:
        return bool(read_state(checkpoint)["progress"]["global_step"] > step)
    except InputError:
        return False


def _text_of(directory: Path, data: str, given: str | None, sha256: str, any_text: bool) -> str:
    """The current path of a run's text: the given one, which must be the same text, or where it is found.

    any_text: accept another text at that place.
    """
    remedy = f"give its path: {resume_command(directory)} --data PATH, or add --allow-mismatch to go on with another"
    if given is None:
        try:
            return find_text(directory, data, sha256, remedy)
        except InputError:
            if not any_text:
                raise
            return find_text(directory, data, None, remedy)
    if not any_text:
        check_text(directory, given, sha256)
    return given


def _length_note(length: Mapping[str, int], run: Run, done: int) -> list[str]:
    """The note on a new length that trains no further, or not as far as its epochs."""
    t = run.config.training
    flags = " and ".join(f"{flag_of(name)} {value}" for name, value in length.items())
    limited = "epochs" in length and "max_steps" not in length and 0 < t.max_steps < run.steps_per_epoch * t.epochs
    limit = f"max_steps = {t.max_steps} ends it, which --max-steps 0 lifts"
    if length and run.total_steps <= done:
        return [f"with {flags}, the run is complete all the same, and nothing is changed{f'; {limit}' * limited}"]
    return [f"with {flags}, the run is shorter than its epochs: {limit}"] if limited else []


def _course(run: Run, first: int, plan: Schedule) -> str | None:
    """The learning rate from update `first` to the last, beside what was planned."""
    schedule, last = run.schedule, run.total_steps - 1
    if isinstance(schedule, Flat) or first > last:
        return None
    course = f"from {schedule(first):.3g} at update {first} to {schedule(last):.3g} at update {last}"
    if schedule == plan:
        planned = counted(run.config.training.decay_steps, "update")
        return f"{course}, as planned for {planned}; --decay-steps 0 stretches the plan over all {last + 1}"
    return f"{course} (last was {plan(first - 1):.3g}, the old plan's next was {plan(first):.3g})"


def resume_command(directory: Path) -> str:
    """The command that resumes a run, as a shell takes it."""
    return f"nanograd-gpt train --resume {quote(str(directory))}"


def complete_line(run: Run, directory: Path) -> str:
    """The message that a run is complete, with a command that trains it further."""
    t = run.config.training
    bound = t.max_steps == run.total_steps
    further = f"--max-steps {2 * t.max_steps}" if bound else f"--epochs {2 * t.epochs}"
    more = f" --epochs {2 * t.epochs}" if bound and run.steps_per_epoch * t.epochs < 2 * t.max_steps else ""
    return (
        f"{directory} is complete, with {counted(run.total_steps, 'update')}; to train further, for example: "
        f"{resume_command(directory)} {further}{more}"
    )
