"""The files of a run's directory that its figures and its report are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ..documents import read_json, read_toml
from ..errors import InputError, counted
from ..files import UnreadableError
from ..training.checkpoint import read_metadata
from ..training.metrics import Metrics, read_metrics
from ..training.run_directory import SNAPSHOTS, SURPRISE, checkpoints
from ..training.run_settings import run_settings
from ..training.snapshots import Snapshot, first_middle_last, read_snapshots


class RunFiles(NamedTuple):
    """A run's metrics, settings, environment, surprise and snapshots, each empty if its file is missing or damaged."""

    metrics: Metrics
    config: dict[str, Any]
    environment: dict[str, Any]
    surprise: dict[str, Any]
    snapshots: Sequence[Snapshot] = ()
    damage: str = ""  # what was passed over, as one sentence; empty if nothing

    @property
    def vocab_size(self) -> int | None:
        return int(self._setting("model", "vocab_size")) or None

    @property
    def drop_rate(self) -> float:
        return self._setting("model", "drop_rate")

    @property
    def max_norm(self) -> float | None:
        return self._setting("training", "max_norm") or None

    def _setting(self, group: str, name: str) -> float:
        """A number > 0 in the settings, in the range of float32, or 0."""
        values = self.config.get(group)
        value = values.get(name) if isinstance(values, dict) else None
        return value if isinstance(value, int | float) and 1e-37 < value < 3e38 else 0


def read_run(run_dir: Path) -> RunFiles:
    """Read a run's files, leaving out those that are damaged.  Raises InputError if metrics.jsonl is missing."""
    path = run_dir / "metrics.jsonl"
    metrics, damage = read_metrics(path), list[str]()
    if metrics.damaged:
        lines = counted(len(metrics.damaged), "line")
        damage.append(f"{path} has {lines} with damage, the first is line {metrics.damaged[0]}")
    config = _settings(run_dir, damage)
    environment = _loaded(run_dir / "environment.json", read_json, damage)
    surprise = _loaded(run_dir / SURPRISE, _read_surprise, damage)
    snapshots = _snapshots(run_dir / SNAPSHOTS, damage)
    passed_over = f"{'; '.join(damage)}; passed over" if damage else ""
    return RunFiles(metrics, config, environment, surprise, snapshots, passed_over)


def _settings(run_dir: Path, damage: list[str]) -> dict[str, Any]:
    """The run's settings by group, with a line for `damage` for each fault of config.toml.

    They are its newest checkpoint's; config.toml's own without a checkpoint that holds settings.
    """
    for checkpoint in reversed(checkpoints(run_dir)):
        try:
            state = read_metadata(checkpoint)
            if "settings" in state:
                settings = run_settings(run_dir, checkpoint, state)
                damage.extend(settings.faults(run_dir, checkpoint))
                return {name: asdict(group) for name, group in settings.config.groups().items()}
        except InputError:  # damaged, or deleted by the run that goes on
            continue
    return _loaded(run_dir / "config.toml", read_toml, damage)


def _loaded(path: Path, read: Callable[[Path], dict[str, Any]], damage: list[str]) -> dict[str, Any]:
    """The content of a file; empty, with a line for `damage`, if it cannot be read, and empty if it does not exist."""
    if not path.exists():
        return {}
    try:
        return read(path)
    except UnreadableError as error:
        damage.append(f"{path} cannot be read ({error})")
        return {}


def _snapshots(path: Path, damage: list[str]) -> list[Snapshot]:
    """The first, the middle and the last snapshot."""
    try:
        found = read_snapshots(path)
    except UnreadableError as error:
        damage.append(f"{path} cannot be read ({error})")
        return []
    return first_middle_last(found, found[-1]["step"] / 2) if found else []


def _read_surprise(path: Path) -> dict[str, Any]:
    """The texts of surprise.json, each a list of tokens and one of probabilities, the first of which may be None."""
    content = read_json(path)
    for name in ("training", "validation"):
        text = content.get(name, {"tokens": [""], "probabilities": [1.0]})
        tokens, numbers = (text.get(key) if isinstance(text, dict) else None for key in ("tokens", "probabilities"))
        if not (
            isinstance(tokens, list)
            and isinstance(numbers, list)
            and len(tokens) == len(numbers)
            and all(isinstance(token, str) for token in tokens)
            and all(p is None or (type(p) in (int, float) and 0 <= p <= 1) for p in numbers)
            and any(p is not None for p in numbers)
        ):
            raise UnreadableError(f"it does not hold the tokens of the {name} text and their probabilities")
    return content
