"""The book's printed numbers come out: all but its training, which takes minutes and is committed as a result file."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "04_the_books_numbers.py"


def test_untrained_numbers_and_samplings_are_the_published_ones():
    folder = os.environ.get("NANOGRAD_TEST_DATA")
    if folder is None:
        pytest.skip("needs the-verdict.txt in the folder that NANOGRAD_TEST_DATA names")
    command = [sys.executable, str(SCRIPT), "--quick", "--data", str(Path(folder) / "the-verdict.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "checked: every value is the published one"
    assert done.stdout.count(" published ") == 13


def test_a_departure_is_named():
    script = runpy.run_path(str(SCRIPT))
    script["compare"]("a number", 1.0, 2.0)
    script["compare"]("close enough", 1.0, 1.000001, tolerance=1e-5)
    assert script["departures"] == ["a number: 1.0, published 2.0"]


def test_the_committed_training_log_is_the_published_one_to_three_decimals():
    log = json.loads((ROOT / "benchmarks" / "results" / "book.json").read_text(encoding="utf-8"))
    ours = [[round(e["train_loss"], 3), round(e["val_loss"], 3)] for e in log["evaluations"]]
    assert [e["step"] for e in log["evaluations"]] == list(range(0, 90, 5))
    assert len(log["samples"]) == 10
    assert ours == log["published"]
