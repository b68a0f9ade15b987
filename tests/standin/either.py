"""The stand-in for CuPy, or the real one on a GPU, for tests that run on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .cupy_standin import installed
from .record import Record


@contextmanager
def simulator_or_gpu(which: str) -> Iterator[Record | None]:
    """The stand-in's record for "simulator"; None for "GPU", skipping the test if CuPy finds none."""
    if which == "simulator":
        with installed() as record:
            yield record
    else:
        cupy = pytest.importorskip("cupy")
        if not cupy.is_available():
            pytest.skip("needs a GPU, and CuPy finds none")
        yield None
