"""Make the files in benchmarks/ importable, as when one is run, and undo the number of threads that they set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanograd_gpt import set_threads
from nanograd_gpt.backend.cpu.threads import n_threads

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Restore the number of threads after each test: a run that is resumed with another number says so."""
    before = n_threads()
    yield
    set_threads(before)
