"""Damaged files of every kind are refused in words or load as what they were; `run.py 10000` is the long form."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzz.run import fuzz


@pytest.mark.skipif(sys.platform == "win32", reason="an alarm ends a load that hangs")
def test_no_damaged_file_gives_a_traceback_another_result_or_a_hang(tmp_path: Path) -> None:
    summary = fuzz(300, 1, tmp_path)
    assert summary.wrong == []
    assert summary.ends["refused"] > 150
