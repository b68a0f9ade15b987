"""Random graphs: their gradients by complex step and PyTorch; and planted faults, which they must find.

tests/graphs/run.py checks as many as one likes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from nanograd_gpt.backend.contract import Array

from .checks import Tally, check
from .operations import OURS
from .planted import FAULTS
from .program import LAYOUTS, Leaf, Program, Root, Step, laid_out, numbers
from .run import explored
from .strategy import programs

GRAPHS = 150
ENOUGH = 400  # graphs, among which each planted fault must show

slow_drawing = settings(max_examples=GRAPHS, suppress_health_check=[HealthCheck.too_slow])


def test_random_graphs_have_the_gradients_of_the_complex_step_and_accumulate_them() -> None:
    tally = Tally()

    @slow_drawing
    @given(programs())
    def each(program: Program) -> None:
        check(program, tally)

    each()
    assert tally.programs >= GRAPHS
    assert tally.names == OURS.keys()
    assert tally.twice_freed


def test_random_graphs_have_the_values_and_gradients_of_pytorch() -> None:
    pytest.importorskip("torch")
    from .checks import Checked, compared
    from .in_pytorch import THEIRS, values_and_gradients

    @slow_drawing
    @given(programs())
    def each(program: Program) -> None:
        compared(Checked(program), *values_and_gradients(program))

    each()
    assert THEIRS.keys() == OURS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("plant", FAULTS.values(), ids=FAULTS.keys())
def test_random_graphs_find_a_planted_fault(plant: Callable[[], Any]) -> None:
    with plant(), pytest.raises((AssertionError, ValueError)) as error:
        explored(ENOUGH, start=1, shrink=False)
    assert any(note.startswith("in the program\n") for note in error.value.__notes__)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 2), (2, 1, 3)], ids=str)
def test_a_layout_changes_neither_shape_nor_first_element(layout: str, shape: tuple[int, ...]) -> None:
    a: Array = laid_out(numbers(shape, 5), layout)
    assert a.shape == shape
    np.testing.assert_array_equal(a[:1] if shape else a, numbers(shape, 5)[:1] if shape else numbers(shape, 5))
    assert np.isfinite(a).all()


def test_a_program_reads_as_a_text() -> None:
    program = Program((Leaf((2,), 7), Step("sum", (0,), {"axis": None, "keepdims": False})), (Root(1, 3),))
    assert str(program).splitlines() == [
        "v0 = leaf[2], plain, seed 7",
        "v1 = sum(v0, axis=None, keepdims=False)",
        "v1.backward(weights of seed 3)",
    ]


def test_a_summary_names_what_was_checked() -> None:
    tally = explored(20, start=3)
    assert str(tally).startswith(f"20 graphs of {tally.steps:,} steps of {len(tally.names)} kinds, ")
    assert (tally.worst_pytorch > 0) is (find_spec("torch") is not None)
