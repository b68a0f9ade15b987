"""The files of a run's directory that its figures and its report are drawn from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..training.metrics import Metrics, read_metrics
from ..training.run_directory import SURPRISE


class RunFiles(NamedTuple):
    """A run's metrics, and its settings, environment and surprise, each empty if its file does not exist."""

    metrics: Metrics
    config: dict[str, Any]
    environment: dict[str, Any]
    surprise: dict[str, Any]

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
        """A number > 0 in config.toml, or 0."""
        values = self.config.get(group)
        value = values.get(name) if isinstance(values, dict) else None
        return value if isinstance(value, int | float) and 0 < value < float("inf") else 0


def read_run(run_dir: Path) -> RunFiles:
    """Read a run's files.  Raises InputError if there is no metrics.jsonl, or if a file cannot be read."""
    return RunFiles(
        read_metrics(run_dir / "metrics.jsonl"),
        _loaded(run_dir / "config.toml", tomllib.loads),
        _loaded(run_dir / "environment.json", json.loads),
        _loaded(run_dir / SURPRISE, json.loads),
    )


def _loaded(path: Path, read: Any) -> dict[str, Any]:
    """The mapping in a file, empty if the file does not exist.  Raises InputError for any other content."""
    if not path.exists():
        return {}
    try:
        content = read(path.read_text(encoding="utf-8"))
    except ValueError as error:  # the base class of the errors of TOML, JSON and UTF-8
        raise InputError(f"report: {path} cannot be read ({error}); restore it, or remove it") from None
    if not isinstance(content, dict):
        raise InputError(f"report: {path} does not hold a table; restore it, or remove it")
    return content
