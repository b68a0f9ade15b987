"""The part of a checkpoint's state.json that belongs to a run: progress, its data's stream, two hashes, settings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from ..arguments import not_allowed, real_number, whole_number
from ..errors import InputError
from ..gpt.config import GPTConfig
from .checkpoint import read_state
from .config import RunConfig, preset
from .loop import Progress
from .run_directory import BEST


class RunState(NamedTuple):
    """A run's state, checked; the streams are checked by the generator that takes them."""

    progress: Progress
    data_stream: Any
    data_sha256: str
    tokenizer_sha256: str


def run_state(checkpoint: Path, state: Mapping[str, Any]) -> RunState:
    """Return the run's part of a checkpoint's state.

    Raises InputError for one that no run wrote, and for a value of the wrong type or out of range.
    """
    for name in ("progress", "data_stream", "data_sha256", "tokenizer_sha256"):
        if name not in state:
            raise InputError(f"checkpoint: {checkpoint} has no {name}, so it is not a run's; use one that train wrote")
    try:
        progress = _progress(state["progress"])
        hashes = [_text(name, state[name]) for name in ("data_sha256", "tokenizer_sha256")]
    except InputError as error:
        raise InputError(f"checkpoint: {checkpoint / 'state.json'}: {error}; use an earlier one") from None
    return RunState(progress, state["data_stream"], *hashes)


def saved_settings(checkpoint: Path, state: Mapping[str, Any]) -> RunConfig | None:
    """Return the settings in a checkpoint's state; None if it has none, as one of an older version.

    Raises InputError for a setting that is unknown, of the wrong type or out of range.
    """
    if "settings" not in state:
        return None
    groups = state["settings"]
    try:
        if not isinstance(groups, Mapping) or groups.keys() != {"data", "training"}:
            raise not_allowed("settings", groups, "a table of data and training")
        for name, group in groups.items():
            if not isinstance(group, Mapping):
                raise not_allowed(f"settings {name}", group, "a table of settings")
        model = GPTConfig.of(state.get("config", "missing")).to_dict()
        return preset("tiny").replace({**groups["data"], **groups["training"], **model})
    except InputError as error:
        raise InputError(f"checkpoint: {checkpoint / 'state.json'}: {error}; use an earlier one") from None


def _progress(saved: Any) -> Progress:
    known = {field.name for field in fields(Progress)}
    if not isinstance(saved, Mapping) or not known >= saved.keys():
        raise not_allowed("progress", saved, f"a table of {', '.join(sorted(known))}")
    progress = Progress(**saved)
    for name, least in (("epoch", 0), ("batch", 0), ("global_step", -1), ("tokens_seen", 0)):
        whole_number(name, getattr(progress, name), least)
    if progress.best_step is not None:
        whole_number("best_step", progress.best_step, 0)
    if progress.best_val_loss is not None and not isfinite(real_number("best_val_loss", progress.best_val_loss)):
        raise not_allowed("best_val_loss", progress.best_val_loss, "a finite number")
    if (progress.best_step is None) != (progress.best_val_loss is None):
        raise not_allowed("best_step", progress.best_step, "a number with a best_val_loss, or neither")
    return progress


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise not_allowed(name, value, "a text")
    return value


def saved_progress(checkpoint: Path, state: RunState) -> Progress:
    """The progress in a checkpoint's state, with the best evaluation, which may have followed the checkpoint."""
    progress, path = state.progress, checkpoint.with_name(BEST)
    with suppress(InputError):  # without intact best weights, the checkpoint's own record stands
        best = run_state(path, read_state(path)).progress
        if best.best_val_loss is not None and best.global_step <= progress.global_step:
            progress.note_best(best.global_step, best.best_val_loss)
    return progress
