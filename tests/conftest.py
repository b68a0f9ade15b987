"""Every test process computes with one BLAS thread: several run side by side, and would wait for each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
KERNELS = [HERE / "cusim", HERE / "cuda_compile", HERE / "backend" / "cuda"]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
threadpool_limits(1, user_api="blas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of CUDA kernels slow: what they test is C++, the same beside every version of Python."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in KERNELS):
            item.add_marker(pytest.mark.slow)
