"""Checkpoints take a small part of a run's time, as benchmarks/saving.py measures it."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep

import harness
import pytest
import saving

STORED = json.loads((harness.RESULTS / "saving.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "most"), [("default run", 0.03), ("124M", 0.05)])
def test_saving_took_less_than_its_limit(name: str, most: float) -> None:
    assert STORED["quick"] is False
    assert 0 < saving.share(STORED["runs"][name]) < most


def test_only_the_outermost_call_is_timed() -> None:
    costs = {"saves": 0, "in_loop": 0.0}

    def save() -> str:
        sleep(0.01)
        return "saved"

    inner = saving.timed(save, costs)
    assert saving.timed(lambda: inner(), costs)() == "saved"
    assert costs["in_loop"] >= 0.01
    assert costs["saves"] == 0  # the outermost has another name
    before = costs["in_loop"]
    inner()
    assert costs["saves"] == 1
    assert costs["in_loop"] >= before + 0.01
    assert "within" not in costs


@pytest.mark.slow
def test_a_run_is_measured(tmp_path: Path) -> None:
    assert saving.main(["--quick", "--only", "default run", "--out", str(tmp_path)]) == 0
    costs = json.loads((tmp_path / "saving.json").read_text(encoding="utf-8"))["runs"]["default run"]
    assert costs["saves"] == 2  # before the first update and after the last
    assert 0 < costs["in_loop"] < costs["seconds"] + 60
    assert [path.name for path in tmp_path.iterdir()] == ["saving.json"]
