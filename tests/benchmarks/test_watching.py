"""Measuring layers takes a small part of a run's time, as benchmarks/watching.py measures it."""

from __future__ import annotations

import json
from pathlib import Path

import harness
import pytest
import watching

STORED = harness.RESULTS / "watching.json"
MOST = 0.02


def test_measuring_took_less_than_its_limit() -> None:
    if not STORED.exists():
        pytest.skip("not measured yet: python benchmarks/watching.py")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert stored["quick"] is False
    assert all(watching.share(costs) < MOST for costs in stored["runs"].values())


def test_nothing_is_left_of_a_tape() -> None:
    if not STORED.exists():
        pytest.skip("not measured yet: python benchmarks/watching.py")
    for costs in json.loads(STORED.read_text(encoding="utf-8"))["runs"].values():
        assert costs["after_a_tape"] == pytest.approx(1, abs=0.01)


def test_the_share_is_of_all_updates() -> None:
    costs = {"plain": 0.01, "watched": 0.012, "snapshots": 0.1, "updates": 1000, "watch_every": 20}
    assert watching.share(costs) == pytest.approx((0.002 * 50 + 0.1) / 10)


@pytest.mark.slow
def test_runs_are_measured(tmp_path: Path) -> None:
    assert watching.main(["--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "watching.json").read_text(encoding="utf-8"))
    assert found["quick"] is True
    assert [*found["runs"]] == [*watching.PRESETS]
    assert all(costs["plain"] > 0 and costs["snapshots"] > 0 for costs in found["runs"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["watching.json"]
