"""metrics.jsonl: a run's events as they happen, one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

from ..arguments import for_json
from ..errors import InputError

Event: TypeAlias = dict[str, Any]


class MetricsLog:
    """Appends events to a file; `write` flushes each line to the operating system.

    Events: start, step (step, epoch, tokens, loss, lr, grad_norm, seconds), evaluation (step, epoch, tokens,
    train_loss, val_loss; step -1 is before the first update), sample (step, epoch, text), end (steps, seconds).
    """

    def __init__(self, path: Path) -> None:
        _end_last_line(path)
        self.file = path.open("a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        self.file.write(json.dumps({"event": event, **values}, default=for_json) + "\n")
        self.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()


def _end_last_line(path: Path) -> None:
    """End a last line that a crash truncated, so that the next event starts on a new one."""
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


@dataclass
class Metrics:
    """A run's events by kind, each step once: steps repeated after a resume replace the earlier ones."""

    steps: list[Event] = field(default_factory=list)
    evaluations: list[Event] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    starts: list[Event] = field(default_factory=list)
    end: Event | None = None


def read_metrics(path: Path) -> Metrics:
    """Read a run's metrics.jsonl, skipping lines truncated by a crash.  Raises InputError if the file is missing."""
    if not path.is_file():
        raise InputError(f"run: {path} does not exist; give the directory of a run that `nanograd-gpt train` wrote")
    by_step: dict[str, dict[int, Event]] = {"step": {}, "evaluation": {}, "sample": {}}
    metrics = Metrics()
    for event in _events(path):
        kind = event["event"]
        if kind in by_step:
            by_step[kind][event["step"]] = event
        elif kind == "start":
            metrics.starts.append(event)
            metrics.end = None
            for events in by_step.values():  # discard events after the checkpoint resumed from
                for step in [s for s in events if s > event.get("resumed_from", -1)]:
                    del events[step]
        elif kind == "end":
            metrics.end = event
    metrics.steps, metrics.evaluations, metrics.samples = (list(events.values()) for events in by_step.values())
    return metrics


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event
