"""Differences between a run and its checkpoint: whether --allow-mismatch accepts them, and notes about them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..environment import changed_since
from ..errors import InputError
from ..training.config import RunConfig
from ..training.run import Run
from ..training.run_settings import SAFE, Difference, RunSettings, differ, listed


def accepted_settings(
    settings: RunSettings, directory: Path, checkpoint: Path, given: Collection[str], allow_mismatch: bool
) -> tuple[RunConfig, list[Difference]]:
    """The settings to go on with, and the differences accepted.  Raises InputError for any other difference.

    given: the settings on the command line, in which a difference does not count.
    """
    differences = [difference for difference in settings.differences if difference.name not in given]
    unsafe = [difference for difference in differences if difference.name not in SAFE]
    file = directory / "config.toml"
    restore = f"delete {file} to go on with the checkpoint's settings"
    if unsafe and allow_mismatch:
        raise InputError(
            f"resume: {differ(directory, checkpoint)}: {listed(unsafe)}; --allow-mismatch does not change "
            f"{'this' if len(unsafe) == 1 else 'these'} in a run: {restore}, or start a new run with --config {file}"
        )
    if differences and not allow_mismatch:
        other = (
            f"start a new run with --config {file}" if unsafe else "add --allow-mismatch to go on with config.toml's"
        )
        raise InputError(f"resume: {differ(directory, checkpoint)}: {listed(differences)}; {restore}, or {other}")
    return settings.config.replace({d.name: d.written for d in differences}), differences


def restored(settings: RunSettings, checkpoint: Path, dry_run: bool) -> list[str]:
    """A note about a config.toml that is missing, damaged or incomplete."""
    what = "would be" if dry_run else "is"
    return [f"{settings.damage}; it {what} restored from {checkpoint}"] if settings.damage else []


def other_text_note(is_other: bool, data: str, checkpoint: Path) -> list[str]:
    """A note about a text that is not the checkpoint's."""
    return [f"data: the text {data!r} is not the one of {checkpoint}; it is used from now on"] if is_other else []


def environment_note(before: Any, run: Run, checkpoint: Path) -> list[str]:
    """A note about changes on which the last bits of results may depend, none of which prevents that a run goes on."""
    changed = changed_since(before, run.environment())
    return [f"since {checkpoint.name}: {'; '.join(changed)}; the last bits of results may differ"] if changed else []
