"""Calls whose answers by the real CuPy are in cupy_calls.json, one a line: is it taken, and what shape and dtype come?

`python tests/standin/calls.py` answers them anew by the CuPy that is installed; a new one goes in with any answer.  It
needs a GPU, or, as for the committed ones, a CuPy 14.2 built from its source with CUPY_INSTALL_USE_STUB, whose calls of
CUDA do nothing: the arguments are CuPy's to judge, no kernel runs, and no value is looked at.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("cupy_calls.json")
ANSWERS: dict[str, str] = json.loads(TABLE.read_text(encoding="utf-8"))["answers"]


def answer(call: str, xp: ModuleType) -> str:
    """'float32[2, 3]' for a device array, else the name of a value's type; errors are raised."""
    names = {"xp": xp, "np": np}
    names |= {name: xp.asarray(host) for name, host in arguments().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return described(eval(call, names), xp)  # of the committed text


def arguments() -> dict[str, Any]:
    """The arrays that the calls name, newly allocated for each: a call may write to them."""
    return {
        "x": np.array([[1.5, 2.0, 0.5], [0.7, 3.0, 1.1]], np.float32),
        "x64": np.ones((2, 3)),
        "i": np.array([[1, 2, 0], [2, 0, 1]]),
        "b": np.array([[True, False, True], [False, True, True]]),
        "c": np.array([1 + 2j, 2 - 1j], np.complex64),
    }


def described(value: Any, xp: ModuleType) -> str:
    if isinstance(value, xp.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(described(item, xp) for item in value)})"
    return "numpy's array" if isinstance(value, np.ndarray) else type(value).__name__


def answers(xp: ModuleType) -> dict[str, str]:
    found = {}
    for call in ANSWERS:
        try:
            found[call] = answer(call, xp)
        except Exception as error:  # the answer
            found[call] = f"raises {type(error).__name__}"
    return found


def main() -> None:
    import cupy

    rows = [f"{json.dumps(call)}: {json.dumps(text)}" for call, text in answers(cupy).items()]
    table = ",\n".join(rows)
    TABLE.write_text(f'{{\n"cupy_version": "{cupy.__version__}",\n"answers": {{\n{table}\n}}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
