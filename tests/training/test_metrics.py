"""metrics.jsonl: round trip, also after a crash or a resume."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from training.small import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.tales.checker import Score
from nanograd_gpt.training.metrics import FIELDS, Event, MetricsLog, read_metrics


def write(path: Path, *events: tuple[str, dict[str, Any]]) -> None:
    log = MetricsLog(path)
    for kind, facts in events:
        log.write(kind, **facts)
    log.close()


def start(after: int = -1) -> tuple[str, dict[str, Any]]:
    return "start", {"resumed_from": after}


def step(number: int, loss: float = 1.0) -> tuple[str, dict[str, Any]]:
    return "step", {**where(number), "loss": loss, "lr": 1e-3, "seconds": 0.5}


def where(number: int) -> dict[str, Any]:
    return {"step": number, "epoch": 1, "tokens": 8 * number}


def evaluation(number: int) -> tuple[str, dict[str, Any]]:
    return "evaluation", {**where(number), "train_loss": 2.5, "val_loss": 3.0}


def sample(number: int) -> tuple[str, dict[str, Any]]:
    return "sample", {"step": number, "epoch": 1, "text": "the cat"}


def tales(number: int) -> tuple[str, dict[str, Any]]:
    return "tales", {**where(number), **Score(50, 600, 590, 400, 300, 1)._asdict()}


def layers(number: int) -> tuple[str, dict[str, Any]]:
    by_layer = {"embeddings": 0.5, "block 0": None}
    return "layers", {**where(number), **dict.fromkeys(("update_ratio", "gradient_rms", "activation_rms"), by_layer)}


def numbers(events: list[Event]) -> list[int]:
    return [event["step"] for event in events]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_events_come_back_by_kind_with_all_their_facts(path: Path) -> None:
    spoken = {"step": 1, "epoch": 1, "text": 'Grüße\u2028"\n世'}
    end = {"steps": 2, "seconds": 0.25}
    write(path, start(), step(0, 1 / 3), evaluation(0), step(1), ("sample", spoken), ("end", end))
    metrics = read_metrics(path)
    assert metrics.steps == [{"event": "step", **step(i, loss)[1]} for i, loss in ((0, 1 / 3), (1, 1.0))]
    assert metrics.evaluations == [{"event": "evaluation", **evaluation(0)[1]}]
    assert metrics.samples == [{"event": "sample", **spoken}]
    assert metrics.damaged == []
    assert metrics.starts == [{"event": "start", "resumed_from": -1}]
    assert metrics.end == {"event": "end", **end}


def test_an_event_is_one_line_of_json_that_is_in_the_file_at_once(path: Path) -> None:
    log = MetricsLog(path)
    for n in (1, 2, 3):
        log.write("sample", step=n, text="two\nlines")
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == [*range(1, n + 1)]
    log.close()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_comes_back(path: Path, loss: float) -> None:
    write(path, start(), step(0, loss))
    assert read_metrics(path).steps[0]["loss"] == pytest.approx(loss, nan_ok=True)


@pytest.mark.parametrize("kept", range(0, len(json.dumps({"event": "step", **step(2)[1]})), 3))
def test_a_last_line_that_was_cut_off_anywhere_is_passed_over_and_what_follows_is_whole(path: Path, kept: int) -> None:
    write(path, start(), step(0), step(1), step(2))
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[:kept])
    assert numbers(read_metrics(path).steps) == [0, 1]
    write(path, start(1), step(2, 5.0))
    metrics = read_metrics(path)
    assert numbers(metrics.steps) == [0, 1, 2]
    assert metrics.steps[-1]["loss"] == 5.0
    assert len(metrics.starts) == 2


@pytest.mark.parametrize("line", ["", "[1, 2]", "3", "null", '{"step": 7}', "\ufffd\ufffd"])
def test_lines_that_are_no_events_are_passed_over(path: Path, line: str) -> None:
    write(path, start(), step(0))
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    write(path, step(1))
    assert numbers(read_metrics(path).steps) == [0, 1]


@pytest.mark.parametrize("resumed_from", [-1, 0, 2, 4])
def test_a_resumed_run_makes_void_what_came_after_its_checkpoint(path: Path, resumed_from: int) -> None:
    first = [step(n, 1.0) for n in range(5)] + [evaluation(n) for n in (0, 2, 4)]
    write(path, start(), *first, sample(1), sample(3), tales(1), tales(3), layers(1), layers(3))
    write(path, start(resumed_from), step(resumed_from + 1, 2.0))
    metrics = read_metrics(path)
    assert numbers(metrics.steps) == list(range(resumed_from + 2))
    assert [event["loss"] for event in metrics.steps] == [1.0] * (resumed_from + 1) + [2.0]
    assert numbers(metrics.evaluations) == [n for n in (0, 2, 4) if n <= resumed_from]
    assert (
        numbers(metrics.samples)
        == numbers(metrics.tales)
        == numbers(metrics.layers)
        == [n for n in (1, 3) if n <= resumed_from]
    )


def test_a_run_that_goes_on_has_not_ended(path: Path) -> None:
    write(path, start(), step(0), ("end", {"steps": 1}))
    assert read_metrics(path).end is not None
    write(path, start(0), step(1))
    assert read_metrics(path).end is None


def test_a_directory_that_holds_no_run_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give the directory of a run") as error:
        read_metrics(path)
    assert str(path) in one_line(error)


# --- damage


@pytest.mark.parametrize("kind", sorted(FIELDS))
@pytest.mark.parametrize(
    "value", [None, "x", -2, True, [1], {"a": 1}, 1e39, 2**60, math.nan, "missing"], ids=lambda value: repr(value)[:12]
)
def test_a_field_of_the_wrong_type_or_missing_is_passed_over_and_its_line_is_listed(
    path: Path, kind: str, value: Any
) -> None:
    whole = {
        "step": step(1),
        "evaluation": evaluation(1),
        "sample": sample(1),
        "tales": tales(1),
        "layers": layers(1),
        "start": start(0),
        "end": ("end", {"steps": 2}),
    }
    fields = FIELDS[kind]
    for name, check in {**fields.required, **fields.measured, **fields.optional}.items():
        facts = {**whole[kind][1], name: value}
        if value == "missing":
            del facts[name]
        path.write_text("", encoding="utf-8")
        write(path, start(), step(0), (kind, facts))
        metrics = read_metrics(path)
        right = name in fields.optional if value == "missing" else check(value)
        assert metrics.damaged == ([] if right else [3])
        found = {"step": metrics.steps[1:], "evaluation": metrics.evaluations, "sample": metrics.samples}
        found |= {"tales": metrics.tales, "layers": metrics.layers}
        found |= {"start": metrics.starts[1:], "end": [metrics.end] if metrics.end else []}
        if name in fields.required and not right:
            assert found[kind] == []
        elif not right:
            assert found[kind][0].get(name) is None
        assert metrics.steps[:1] == [{"event": "step", **step(0)[1]}]


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"event": "step", "step": 1, "step": 2}', b'{"event": 3}', b"\0" * 100,
     b'{"event": "step"', b'{"event": "step", "step": ' + b"9" * 400 + b"}"],
    ids=["not UTF-8", "nested", "digits", "twice", "kind", "zeros", "cut", "huge"],
)  # fmt: skip
def test_a_damaged_line_is_passed_over_and_listed(path: Path, line: bytes) -> None:
    write(path, start(), step(0))
    path.write_bytes(path.read_bytes() + line + b"\n")
    write(path, step(1))
    metrics = read_metrics(path)
    assert (numbers(metrics.steps), metrics.damaged) == ([0, 1], [3])


def test_a_kind_that_is_unknown_is_not_damage(path: Path) -> None:
    write(path, start(), ("power", {"watts": 3}), step(0))
    assert (numbers(read_metrics(path).steps), read_metrics(path).damaged) == ([0], [])


def test_a_fifo_is_refused(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"it is a FIFO \(named pipe\), not a regular file"):
        read_metrics(path)
    with pytest.raises(InputError, match="cannot be written"):
        MetricsLog(path)
