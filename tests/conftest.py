"""One BLAS thread for every test process; Hypothesis; which tests are slow; their order, and which worker runs them."""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
# What no other version of Python or of a library changes: C++, the sources' words and layers, how errors are found.
KERNELS = [HERE / "cusim", HERE / "cuda_compile", HERE / "backend" / "cuda"]
SAME_EVERYWHERE = [
    *KERNELS,
    HERE / "test_wording.py",
    HERE / "test_architecture.py",
    HERE / "gradcheck" / "test_broken_rules.py",
]
LONGEST = HERE / "test_readme.py"

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
threadpool_limits(1, user_api="blas")  # several test processes run side by side, and would wait for each other


settings.register_profile("suite", derandomize=True, deadline=None, database=None)  # the same examples in every run
settings.load_profile("suite")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give neighbouring tests to one worker, as they share fixtures and compiled kernels; one that is done helps."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests slow that no other version of a library changes; skip those of a GPU; begin with the longest."""
    without_cupy = find_spec("cupy") is None
    for item in items:
        if any(item.path.is_relative_to(path) for path in SAME_EVERYWHERE):
            item.add_marker(pytest.mark.slow)
        if without_cupy and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs CuPy and a GPU"))
    mark_repeated_values(items)
    items.sort(key=lambda item: item.path != LONGEST)


def pytest_collection_finish() -> None:
    """Leave modules and items, of which there are many, out of later garbage collections: a twentieth of all time."""
    gc.collect()
    gc.freeze()


def mark_repeated_values(items: list[pytest.Item]) -> None:
    """Mark those of a product of parameters slow that have no value which an earlier one has not."""
    tried: dict[str, set[Any]] = defaultdict(set)
    for item in items:
        if item.get_closest_marker("slow") or not hasattr(item, "callspec"):
            continue
        test, given = item.nodeid.partition("[")[0], set(values(item))
        if given <= tried[test]:
            item.add_marker(pytest.mark.slow)
        tried[test] |= given


def values(item: Any) -> list[tuple[Any, ...]]:
    """The row of each of a test's parametrizations, by identity, as arrays do not compare."""
    params = {name: id(value) for name, value in item.callspec.params.items()}
    tables = [mark.args[0] for mark in item.iter_markers("parametrize")]
    rows = [table.replace(" ", "").split(",") if isinstance(table, str) else table for table in tables]
    fixtures = [[name] for name in params if not any(name in row for row in rows)]
    return [tuple((name, params[name]) for name in row) for row in [*rows, *fixtures]]
