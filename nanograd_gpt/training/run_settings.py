"""The settings of a run: its checkpoint's decide, and config.toml is compared with them.

config.toml alone decides the run's length, which train --resume changes, and where its text is now.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..arguments import shown
from ..documents import read_toml
from ..errors import InputError, RunError
from ..files import UnreadableError
from .config import RunConfig, from_toml, preset
from .corpus import BUILTIN_TEXTS, load_text
from .run_state import saved_settings
from .run_text import find_text, text_hash

LENGTH = ("epochs", "max_steps", "decay_steps")
SAFE = (  # to change in the middle of a run: no state in a checkpoint depends on them
    "lr", "schedule", "warmup_steps", "decay_steps", "initial_lr", "min_lr", "max_norm", "eval_freq", "eval_iter",
    "watch_every", "sample_every", "checkpoint_every", "checkpoint_minutes", "keep", "on_nonfinite", "prompt", "data",
)  # fmt: skip
LATER = {  # settings that config.toml did not have from the first version on
    "tied_head", "decay_steps", "initial_lr", "decay", "checkpoint_minutes", "on_nonfinite", "keep", "weights",
    "random", "watch_every",
}  # fmt: skip


class Difference(NamedTuple):
    """A setting whose value in config.toml is not the checkpoint's."""

    name: str
    written: Any
    saved: Any  # None if the checkpoint has no such setting

    def __str__(self) -> str:
        said = repr if self.name == "data" else shown  # two paths may differ only in the middle, which shown leaves out
        saved = "has none" if self.saved is None else said(self.saved)
        return f"{self.name}: config.toml says {said(self.written)}, the checkpoint {saved}"


class RunSettings(NamedTuple):
    """A run's settings, and what is wrong with its config.toml."""

    config: RunConfig
    saved: RunConfig  # the checkpoint's own; of an older version's, which has none, `config`
    damage: str = ""  # of config.toml, as "PATH is missing"; empty for none
    differences: tuple[Difference, ...] = ()

    def faults(self, directory: Path, checkpoint: Path) -> list[str]:
        """Return what is wrong with config.toml; a command that only reads the run uses the checkpoint's settings."""
        differing = f"{differ(directory, checkpoint)}: {listed(self.differences)}" if self.differences else ""
        return [what for what in (self.damage, differing) if what]

    def notes(self, directory: Path, checkpoint: Path) -> list[str]:
        """Return a note for each fault."""
        return [f"{fault}; the checkpoint's settings are used" for fault in self.faults(directory, checkpoint)]


def run_settings(directory: Path, checkpoint: Path, state: Mapping[str, Any]) -> RunSettings:
    """Return a run's settings, from the state of its checkpoint and from config.toml.

    Raises InputError for settings that are damaged in the checkpoint; for a checkpoint of an older version, which has
    none, also if config.toml cannot be read or lacks some.
    """
    file, saved = directory / "config.toml", saved_settings(checkpoint, state)
    if saved is None:
        config = _of_older(file)
        return RunSettings(config, config)
    own = saved.flat()
    try:
        written = from_toml(file)
    except InputError:
        return RunSettings(saved, saved, _damage(file))
    damage = _lacking(file, written, own)
    different = {n: v for n, v in written.items() if not _same(v, own.get(n))}
    kept = {"data": written["data"]} if _is_text_of(directory, written.get("data"), saved, state) else {}
    kept |= _length(different, saved)
    differences = (Difference(n, v, own.get(n)) for n, v in different.items() if n not in kept)
    return RunSettings(saved.replace(kept), saved, damage, tuple(differences))


def differ(directory: Path, checkpoint: Path) -> str:
    """Return the beginning of a message about differences."""
    return f"{directory / 'config.toml'} differs from {checkpoint}"


def listed(differences: Iterable[Difference]) -> str:
    """Return differences field by field."""
    return "; ".join(map(str, differences))


def _of_older(file: Path) -> RunConfig:
    """The settings in config.toml, which must be complete."""
    remedy = "its checkpoints are of an older version and hold no settings, so restore the file"
    try:
        written = from_toml(file)
    except InputError:
        raise InputError(f"config: {_damage(file)}; {remedy}") from None
    if lacking := _lacking(file, written, preset("tiny").flat()):
        raise InputError(f"config: {lacking}; {remedy}")
    return preset("tiny").replace(written)


def _lacking(file: Path, written: Collection[str], settings: Iterable[str]) -> str:
    """Describe the settings that a config.toml lacks; empty if it has all."""
    lacking = [name for name in settings if name not in written and name not in LATER]
    if not lacking:
        return ""
    return f"{file} lacks {', '.join(lacking)}" if written else f"{file} has no settings"


def _damage(file: Path) -> str:
    """Describe the damage of a config.toml that cannot be read."""
    if not os.path.lexists(file):
        return f"{file} is missing"
    try:
        read_toml(file)
    except UnreadableError as error:
        return f"{file} cannot be read ({error})"
    return f"{file} has changed while it was read"


def _length(different: Mapping[str, Any], saved: RunConfig) -> dict[str, Any]:
    """The run's length in config.toml, where it differs and is valid.

    A length that is changed during the warm-up shortens it to what was planned: see Run.change_length.
    """
    length = {name: different[name] for name in LENGTH if name in different}
    warmup = different.get("warmup_steps")
    if length and type(warmup) is int and warmup < saved.training.warmup_steps:
        length["warmup_steps"] = warmup
    try:
        saved.replace(length)
    except InputError:
        return {}
    return length


def _is_text_of(directory: Path, data: Any, saved: RunConfig, state: Mapping[str, Any]) -> bool:
    """Tell whether a path in config.toml leads to the run's text, wherever the run and the text are now."""
    if not isinstance(data, str) or data == saved.data.data:
        return False
    there = data in BUILTIN_TEXTS or (os.path.isabs(data) and os.path.isfile(data))
    try:
        if there:
            return text_hash(load_text(data)) == state.get("data_sha256")
        find_text(directory, data, state.get("data_sha256"), "")
        return True
    except (InputError, RunError):
        return False


def _same(written: Any, saved: Any) -> bool:
    """Tell whether a value in TOML is a setting's value; an integer is the float that it equals."""
    if isinstance(saved, float) and type(written) is int:
        return written == saved
    return type(written) is type(saved) and bool(written == saved)


def keep_damaged(directory: Path) -> None:
    """Rename a config.toml that cannot be read to config.toml.damaged, before it is written again."""
    file = directory / "config.toml"
    try:
        read_toml(file)
    except UnreadableError:
        if os.path.lexists(file):
            file.replace(file.with_name("config.toml.damaged"))
