"""Call by call, the stand-in takes what CuPy takes and refuses what CuPy refuses, and results have its dtype and shape.

Why CuPy refuses: see refusals.py, which names the functions of its source.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from standin.calls import ANSWERS, answer, answers

HOST = "no array goes to the device in passing, or stays on the host, where a formula means one on the device"
RACE = "CuPy goes on, and writes what other threads are still to read"
NUMPYS = "NumPy refuses it, and a formula is for both"
STRICTER = {
    "xp.repeat(np.ones(2), 2)": HOST,
    "xp.linalg.norm(np.ones(3))": HOST,
    "xp.sum(np.ones(3))": HOST,
    "xp.max(np.float32(1))": HOST,
    "xp.tril(np.ones((2, 2)))": HOST,
    "xp.array_equal(x, np.ones(3))": HOST,
    "xp.allclose(x, np.ones(3))": HOST,
    "xp.copy(np.ones(3))": HOST,
    "x.reshape(np.array([3, 2]))": "a shape is of Python's numbers, not an array",
    "xp.add.at(x, [0, 1, 1], x[0])": RACE,
    "x.sum(axis=0, out=x[0])": RACE,
    "x.sum(axis=1, out=x[:, 0])": RACE,
    "x.max(axis=0, out=x[0])": RACE,
    "xp.take(x, [0, 1], out=x[0, :2])": RACE,
    "x.__setitem__([0, 1], x[::-1])": RACE,
    "+b": NUMPYS,
    "x.sum(axis=[0])": NUMPYS,
    "x[:0].__bool__()": NUMPYS,
}


@pytest.mark.parametrize("call", [call for call in ANSWERS if call not in STRICTER])
def test_a_call_is_answered_as_by_cupy(cp: ModuleType, call: str) -> None:
    try:
        ours = {answer(call, cp)}
    except Exception as error:  # the answer, and so are the classes that it is of
        ours = {f"raises {cls.__name__}" for cls in type(error).__mro__}
    assert ANSWERS[call] in ours


@pytest.mark.parametrize("call", STRICTER)
def test_where_the_standin_is_stricter_cupy_would_go_on(cp: ModuleType, call: str) -> None:
    assert not ANSWERS[call].startswith("raises")
    with pytest.raises((AttributeError, RuntimeError, TypeError, ValueError)):
        answer(call, cp)


@pytest.mark.gpu
def test_the_committed_answers_are_the_installed_cupys() -> None:
    pytest.importorskip("cupy", exc_type=ImportError)
    assert answers(importlib.import_module("cupy")) == ANSWERS
