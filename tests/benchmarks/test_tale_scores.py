"""The tales that trained models write are as good as benchmarks/tale_scores.py measured them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import harness
import pytest
import tale_scores

RUNS = json.loads((harness.RESULTS / "tales.json").read_text(encoding="utf-8"))["runs"]
DEFAULT = [run for name, run in RUNS.items() if name.startswith("default run")]


def test_the_default_run_was_measured_with_three_seeds() -> None:
    assert sorted(run["settings"]["seed"] for run in DEFAULT) == [1, 2, 123]
    assert len({run["updates"] for run in DEFAULT}) == 1


@pytest.mark.parametrize("run", DEFAULT, ids=lambda run: run["settings"]["seed"])
def test_after_the_default_run_sentences_are_grammatical_and_most_agree(run: dict[str, Any]) -> None:
    shares = tale_scores.shares_of(run)
    assert run["score"]["tales"] == 200
    assert shares["grammatical"] >= 0.95
    assert shares["consistent"] >= 0.7
    assert shares["copied"] <= 0.2


def test_after_ten_minutes_nine_sentences_of_ten_agree() -> None:
    assert tale_scores.shares_of(RUNS["ten minutes"])["consistent"] >= 0.9


@pytest.mark.slow
def test_a_run_is_measured(tmp_path: Path) -> None:
    assert tale_scores.main(["--quick", "--threads", "1", "--only", "ten minutes", "--out", str(tmp_path)]) == 0
    run = json.loads((tmp_path / "tales.json").read_text(encoding="utf-8"))["runs"]["ten minutes"]
    assert run["updates"] == 4
    assert run["score"]["tales"] == 200
    assert run["score"]["grammatical"] <= run["score"]["sentences"]
