"""benchmarks/estimates.py takes its figures from the places where `train` has them now."""

from __future__ import annotations

import json
from pathlib import Path

import estimates
import pytest


@pytest.mark.slow
def test_a_run_is_estimated_and_measured(tmp_path: Path) -> None:
    assert estimates.main(["--quick", "--only", "tiny", "--out", str(tmp_path)]) == 0
    tiny = json.loads((tmp_path / "estimates.json").read_text(encoding="utf-8"))["runs"]["tiny"]
    assert tiny["settings"] == ["--epochs", "6"]
    assert 2**26 < tiny["expected_bytes"] < 2**28
    assert tiny["peak_bytes"] > 2**26
    assert tiny["seconds"] > 0
    assert tiny["expected_seconds"] > 0


def test_a_name_that_has_moved_is_an_error() -> None:
    with pytest.raises(AttributeError, match="expected_of"):
        estimates.replace(json, "expected_of", None)
