"""Checks for the tests of kernels: thread orders, errors against float64, races, planted bugs.

    def sums() -> Any:                       # launches, and returns the arrays that it wrote
        y = empty(n)
        function((n,), (64,), (x, y))
        return y

    (y,) = same_in_every_order(sums)
    assert relative_error(y, x.astype(np.float64).sum(1)) < FLOAT32
    assert races_of(sums) == []
    with planted(path, "__syncthreads();", ""), caught():
        assert races_of(sums) == []

The function may as well call the package's launchers on the stand-in's device arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .compiler import missing_compiler, missing_thread_sanitizer
from .errors import CompilerError, SimulatorError
from .memory import HostArray
from .races import host_array, races
from .simulator import IN_ORDER, REVERSED, SHUFFLED, changed, kept_launches, thread_order

BF16, FLOAT32, DOUBLE = 3e-3, 1e-6, 1e-12  # relative errors that a kernel of that type stays below

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))
_missing_sanitizer = missing_thread_sanitizer()
needs_thread_sanitizer = pytest.mark.skipif(_missing_sanitizer is not None, reason=str(_missing_sanitizer))


def same_in_every_order(run: Callable[[], Any]) -> list[HostArray]:
    """The arrays that run() returns, one or several.

    Raises AssertionError if their bits depend on the order of threads and blocks.
    """
    results = []
    for order in (IN_ORDER, REVERSED, SHUFFLED):
        with thread_order(order):
            got = run()
        arrays = got if isinstance(got, (list, tuple)) else [got]
        results.append([host_array(array).copy() for array in arrays])
    for name, other in zip(("reversed", "shuffled"), results[1:], strict=True):
        for i, (a, b) in enumerate(zip(results[0], other, strict=True)):
            differing = np.ascontiguousarray(a).view(np.uint8) != np.ascontiguousarray(b).view(np.uint8)
            assert not differing.any(), f"array {i} has other bits with the threads {name}: the kernel has a race"
    return results[0]


def relative_error(got: Any, expected: HostArray) -> float:
    """|got - expected| / |expected|, by norms over all elements.

    inf where an element is not finite: one that was never written, for example.
    """
    got = np.asarray(host_array(got), np.float64)
    assert got.shape == expected.shape, f"the shape is {got.shape}, of the reference {expected.shape}"
    scale = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(got - expected))
    if not np.isfinite(error):
        return float("inf")
    return error / scale if scale else error


def races_of(run: Callable[[], Any]) -> list[str]:
    """The races in all launches of run(), as the lines of their accesses; give it a small shape.

    Skips the test where there is no ThreadSanitizer.
    """
    if missing := missing_thread_sanitizer():
        pytest.skip(missing)
    with kept_launches() as launches:
        run()
    assert launches, "no kernel was launched"
    return sorted({race for launch in launches for race in races(launch)})


def changed_once(text: str, old: str, new: str) -> str:
    """The text with `old`, which has to be in it exactly once, replaced."""
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the text, not once"
    return text.replace(old, new)


@contextmanager
def planted(source: Path | str, old: str, new: str) -> Iterator[None]:
    """Compile a .cu or .cuh file, or a text, with a bug in place of `old`, also in modules that were made before."""
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    with changed(text, changed_once(text, old, new)):
        yield


@contextmanager
def caught() -> Iterator[None]:
    """Fail unless a check in the block, or the simulator, finds something wrong; a text has to compile all the same."""
    try:
        yield
    except CompilerError:
        raise
    except (AssertionError, SimulatorError):
        return
    pytest.fail("the bug was not caught")
