"""metrics.jsonl: a run's events as they happen, one JSON object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, TypeAlias

from ..arguments import for_json
from ..documents import json_object
from ..errors import InputError
from ..files import UnreadableError, reason_of, regular_size

Event: TypeAlias = dict[str, Any]
Check: TypeAlias = Callable[[Any], bool]

MAX_COUNT = 2**53  # of updates, tokens or parameters
MAX_SECONDS = 10**10
MAX_FLOAT = 3.5e38  # a little above float32's largest number
MAX_LINE = 16 << 20  # bytes


class MetricsLog:
    """Appends events to a file; `write` flushes each line to the operating system.

    Events: start, step (step, epoch, tokens, loss, lr, grad_norm, seconds), evaluation (step, epoch, tokens,
    train_loss, val_loss; step -1 is before the first update), layers (step, epoch, tokens, and by layer: update_ratio,
    gradient_rms, activation_rms; see LayerScales), sample (step, epoch, text), tales (step, epoch,
    tokens, and a Score: tales, sentences, grammatical, tested, consistent, copies), end (steps, seconds).
    """

    def __init__(self, path: Path) -> None:
        try:
            _end_last_line(path)
        except UnreadableError as error:
            raise InputError(f"run: {path} cannot be written ({error}); move it away") from None
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
    if not path.exists() or regular_size(path) == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.write(b"\n")


@dataclass
class Metrics:
    """A run's events by kind, each step once: steps repeated after a resume replace the earlier ones."""

    steps: list[Event] = field(default_factory=list)
    evaluations: list[Event] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    layers: list[Event] = field(default_factory=list)
    tales: list[Event] = field(default_factory=list)
    starts: list[Event] = field(default_factory=list)
    end: Event | None = None
    damaged: list[int] = field(default_factory=list)  # numbers of lines that were passed over, all or in part


def read_metrics(path: Path) -> Metrics:
    """Read a run's metrics.jsonl; returns events whose fields are there and of the right type, see FIELDS.

    A line that is not such an event, such as one truncated by a crash, is passed over; a missing or impossible
    measurement is None.  Raises InputError if the file is missing or special.
    """
    if not os.path.exists(path):
        raise InputError(f"run: {path} does not exist; give the directory of a run that `nanograd-gpt train` wrote")
    try:
        regular_size(path)
        file = path.open("rb")
    except (UnreadableError, OSError) as error:
        raise InputError(f"run: {path} cannot be read ({reason_of(error)}); give another run") from None
    by_step: dict[str, dict[int, Event]] = {"step": {}, "evaluation": {}, "sample": {}, "layers": {}, "tales": {}}
    metrics = Metrics()
    with file:
        for event in _events(file, metrics.damaged):
            kind = event["event"]
            if kind in by_step:
                by_step[kind][event["step"]] = event
            elif kind == "start":
                metrics.starts.append(event)
                metrics.end = None
                resumed_from = event["resumed_from"]
                for events in by_step.values():  # discard events after the checkpoint resumed from, if it is known
                    for step in [s for s in events if resumed_from is not None and s > resumed_from]:
                        del events[step]
            else:
                metrics.end = event
    metrics.steps, metrics.evaluations, metrics.samples, metrics.layers, metrics.tales = (
        list(events.values()) for events in by_step.values()
    )
    return metrics


# --- the checks


def _is_step(value: Any) -> bool:
    """Tell whether a value is the number of an update, or -1, before the first."""
    return type(value) is int and -1 <= value <= MAX_COUNT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SECONDS


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_FLOAT


def _is_measured(value: Any) -> bool:
    """Tell whether a value is a loss or a norm in float32, nan and infinity among them, or None, not measured."""
    return value is None or (type(value) in (int, float) and (-1 < value <= MAX_FLOAT or not isfinite(value)))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_by_layer(value: Any) -> bool:
    """Tell whether a value is a table of numbers >= 0 by layer, or None where there was nothing to measure."""
    return isinstance(value, dict) and all(_is_measured(n) and (n is None or n >= 0) for n in value.values())


class Fields(NamedTuple):
    """The fields of a kind of event, with their checks; other fields are kept as they are."""

    required: dict[str, Check]  # a line without one is passed over
    measured: dict[str, Check]  # None, if missing or impossible
    optional: dict[str, Check]  # left out, if impossible


COUNTS = ("tales", "sentences", "grammatical", "tested", "consistent", "copies")
WHERE: dict[str, Check] = {"step": _is_step, "epoch": _is_count, "tokens": _is_count}
FIELDS = {
    "step": Fields({**WHERE, "seconds": _is_time}, {"loss": _is_measured, "lr": _is_rate}, {"grad_norm": _is_measured}),
    "evaluation": Fields(WHERE, {"train_loss": _is_measured, "val_loss": _is_measured}, {}),
    "layers": Fields(
        {**WHERE, **dict.fromkeys(("update_ratio", "gradient_rms", "activation_rms"), _is_by_layer)}, {}, {}
    ),
    "sample": Fields({"step": _is_step, "epoch": _is_count, "text": _is_text}, {}, {}),
    "tales": Fields({**WHERE, **dict.fromkeys(COUNTS, _is_count)}, {}, {}),
    "start": Fields(
        {},
        {"resumed_from": _is_step},
        {"time": _is_text, "n_parameters": _is_count, "tokens_per_epoch": _is_positive},
    ),
    "end": Fields({"steps": _is_count}, {}, {"seconds": _is_time}),
}


def _events(file: IO[bytes], damaged: list[int]) -> Iterator[Event]:
    """Yield the events of the known kinds; appends the numbers of damaged lines."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            event = json_object(line if len(line) <= MAX_LINE else b"")
        except UnreadableError:
            if not line.endswith(b"\n"):
                return  # it is being written now
            event = {}
        kind = event.get("event")
        fields = FIELDS.get(kind) if isinstance(kind, str) else None
        if fields is None:
            if not isinstance(kind, str):
                damaged.append(number)
            continue
        whole = all(name in event and check(event[name]) for name, check in fields.required.items())
        missing = [name for name, check in fields.measured.items() if not (name in event and check(event[name]))]
        wrong = [name for name, check in fields.optional.items() if name in event and not check(event[name])]
        if missing or wrong or not whole:
            damaged.append(number)
        if whole:
            yield {name: value for name, value in event.items() if name not in wrong} | dict.fromkeys(missing)
