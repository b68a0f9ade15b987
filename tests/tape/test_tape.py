"""A tape as a table, and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tape.small import IDS, B, C, T, model_of

import nanograd_gpt as ng
from nanograd_gpt.errors import InputError
from nanograd_gpt.tape.table import COLUMNS, byte_count
from nanograd_gpt.tape.tape import Tape


@pytest.fixture
def tape() -> Tape:
    model = model_of(drop_rate=0.5)
    with ng.record() as tape:
        for _ in range(2):
            model.loss(IDS, IDS).backward()
    return tape


def cells(tape: Tape) -> list[list[str]]:
    """The cells of the printed table, by the columns' places in the first line."""
    lines = str(tape).splitlines()
    starts = [lines[0].index(title) for title in COLUMNS[:5]]
    ends = [lines[0].index(title) + len(title) for title in COLUMNS[5:9]]
    bounds = [*starts[1:], ends[0] - 5, *ends]
    return [[line[a:b].strip() for a, b in zip([0, *bounds], [*bounds, None], strict=True)] for line in lines]


def test_calls_that_are_alike_share_a_line_and_the_totals_add_up(tape: Tape) -> None:
    head, *rows, all_, outside, total = cells(tape)
    assert head == COLUMNS
    assert len(rows) == len({(o.name, o.path, o.source) for o in tape.operations}) == len(tape.operations) / 2
    attention = next(row for row in rows if row[:2] == ["CausalAttention", "trf_blocks.1.att"])
    assert attention[2:6] == [f"{B}x{T}x{3 * C}", f"{B}x{T}x{C}", "float32", "2"]
    assert attention[9].startswith("gpt/model.py:")
    assert int(all_[5]) == sum(int(row[5]) for row in rows) == len(tape.operations)
    for column in (6, 7):
        times = [float(row[column] or 0) for row in rows]
        assert float(all_[column]) == pytest.approx(sum(times), abs=6e-4 * len(rows))
    assert float(all_[6]) + float(all_[7]) + float(outside[6]) == pytest.approx(float(total[6]), abs=3e-3)


def test_an_empty_tape_prints() -> None:
    with ng.record() as tape:
        pass
    assert str(tape).splitlines()[1].startswith("all operations")
    assert "<svg" in tape._repr_svg_()
    assert repr(tape) == f"Tape(0 operations, {tape.ms:.2f} ms)"


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, ""), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 19, "1.5 MiB"), (3 << 30, "3,072.0 MiB")],
)
def test_bytes_in_words(n: int, words: str) -> None:
    assert byte_count(n) == words


def test_the_trace_has_complete_events_that_nest(tape: Tape, tmp_path: Path) -> None:
    path = tape.chrome_trace(tmp_path / "new" / "trace.json")
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    assert {event["ph"] for event in events} == {"X"}
    assert len({(event["pid"], event["tid"]) for event in events}) == 1
    by_kind = {kind: [e for e in events if e["cat"] == kind] for kind in ("forward", "backward", "module")}
    assert len(by_kind["forward"]) == len(tape.operations)
    assert len(by_kind["backward"]) == sum(o.backward is not None for o in tape.operations)
    assert sum(e["dur"] for e in by_kind["forward"]) == pytest.approx(1e3 * tape.forward_ms)
    (attention, _) = (e for e in by_kind["forward"] if e["name"] == "CausalAttention" and "0" in e["args"]["module"])
    assert attention["args"]["shape"] == [B, T, C]
    open_until: list[float] = []
    for event in events:
        assert event["ts"] >= 0
        while open_until and open_until[-1] <= event["ts"] + 1e-6:
            open_until.pop()
        if open_until:  # inside the event around it
            assert event["ts"] + event["dur"] <= open_until[-1] + 1e-6
        open_until.append(event["ts"] + event["dur"])
    outer = next(e for e in by_kind["module"] if e["name"] == "trf_blocks.0.att")
    assert outer["ts"] <= attention["ts"]
    assert attention["ts"] + attention["dur"] <= outer["ts"] + outer["dur"] + 1e-6


def test_files_have_their_suffix(tape: Tape, tmp_path: Path) -> None:
    assert tape.svg(str(tmp_path / "a.svg")).read_text(encoding="utf-8") == tape._repr_svg_()
    with pytest.raises(InputError, match=r"tape: .*a.png' does not end with .svg"):
        tape.svg(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"tape: .*a.svg' does not end with .json"):
        tape.chrome_trace(tmp_path / "a.svg")
    with pytest.raises(TypeError, match=r"path is an ndarray, expected a str or a Path"):
        tape.svg(np.ones(1))  # type: ignore[arg-type]  # what is refused
