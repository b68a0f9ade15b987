"""metrics.jsonl: what happened in a run, one JSON event a line, as it happens."""

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
    """Appends events to a file; a line is with the operating system before `write` returns.

    Events: start, step (step, epoch, tokens, loss, lr, grad_norm, seconds), evaluation (step, epoch, tokens,
    train_loss, val_loss; step -1 is before the first update), sample (step, epoch, text), end (steps, seconds).
    """

    def __init__(self, path: Path) -> None:
        _end_last_line(path)
        self.file = path.open("a", encoding="utf-8")

    def write(self, event: str, **facts: Any) -> None:
        self.file.write(json.dumps({"event": event, **facts}, default=for_json) + "\n")
        self.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()


def _end_last_line(path: Path) -> None:
    """A crash may have cut the last line off: begin on a new one."""
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


@dataclass
class Metrics:
    """A run's events by kind, each step once: what was done again after a resume replaces what was lost."""

    steps: list[Event] = field(default_factory=list)
    evaluations: list[Event] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    starts: list[Event] = field(default_factory=list)
    end: Event | None = None


def read_metrics(path: Path) -> Metrics:
    """Read a run's metrics.jsonl.  Raises InputError if it is not there; lines cut off by a crash are passed over."""
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
            for events in by_step.values():  # what came after the checkpoint that this start goes on from is void
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
