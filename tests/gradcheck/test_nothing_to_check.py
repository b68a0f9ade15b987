"""Cases that cannot be checked do not pass: no floats, no elements, no directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanograd_gpt.gradcheck import (
    GradientError,
    check_accumulation,
    check_function,
    check_gradients,
    check_hessian_symmetry,
    check_ownership,
)
from nanograd_gpt.ops.elementwise import Mul
from nanograd_gpt.tensor import Tensor, apply

X = np.random.default_rng(0).standard_normal((3, 4))

WrongMul = type("WrongMul", (Mul,), {"backward": lambda op, dz: (dz * 3.0, dz)})


def wrong(x: Tensor, y: Any = 1.0) -> Tensor:
    return apply(WrongMul, x, y)


@pytest.mark.parametrize(
    ("inputs", "settings", "error", "message"),
    [
        ([np.array([1, 2])], {}, ValueError, "wrong: no input has an element of float dtype"),
        ([3], {}, ValueError, "wrong: no input has an element of float dtype"),
        ([True], {}, ValueError, "wrong: no input has an element of float dtype"),
        ([], {}, ValueError, "wrong: no input has an element of float dtype"),
        ([np.zeros((0, 3))], {}, ValueError, "wrong: no input has an element of float dtype"),
        ([[1.0], np.zeros((0, 1))], {}, ValueError, r"wrong: the result has shape \(0, 1\) and no elements"),
        ([X.astype(object)], {}, TypeError, "wrong: input 0 is ndarray of object; give floats or integers"),
        ([X, X + 0j], {}, TypeError, "wrong: input 1 is ndarray of complex128; give floats or integers"),
        ([X, "two"], {}, TypeError, "wrong: input 1 is str of <U3; give floats or integers"),
        ([X], {"directions": 0}, ValueError, "wrong: 0 directions compare nothing; choose 1 or more"),
        ([X], {"directions": -1}, ValueError, "wrong: -1 directions compare nothing; choose 1 or more"),
        (
            [X],
            {"method": "forward"},
            ValueError,
            "wrong: method 'forward' is unknown; choose one of complex step, central",
        ),
    ],
    ids=str,
)
def test_what_would_compare_nothing_is_refused(
    inputs: list[Any], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        check_gradients(wrong, inputs, name="wrong", **settings)


def test_no_leaves_are_refused() -> None:
    with pytest.raises(ValueError, match="no input has an element of float dtype"):
        check_function(lambda: Tensor(X), {})
    with pytest.raises(ValueError, match="0 directions compare nothing"):
        check_function(lambda: Tensor(X), {"x": Tensor(X)}, directions=0)
    with pytest.raises(ValueError, match="0 leaves compare nothing"):
        check_hessian_symmetry(lambda: Tensor(X), {})
    with pytest.raises(ValueError, match="0 pairs of vectors over 1 leaves compare nothing"):
        check_hessian_symmetry(lambda: Tensor(X), {"x": Tensor(X)}, pairs=0)


def test_rules_of_memory_are_not_checked_on_integers() -> None:
    with pytest.raises(ValueError, match="no input is of float dtype"):
        check_ownership(WrongMul, [np.array([1]), np.array([2])], {})
    with pytest.raises(ValueError, match="no input is of float dtype"):
        check_accumulation(wrong, [np.array([1])])


def test_lists_and_numbers_are_differentiated() -> None:
    assert check_gradients(lambda x, y: (x * y).tanh(), [[1.0, 2.0], 0.3]) <= 1e-14
    with pytest.raises(GradientError, match="gradient of input 0"):
        check_gradients(wrong, [[1.0, 2.0]])


def test_a_function_that_changes_its_input_is_named() -> None:
    def doubled(x: Tensor) -> Tensor:
        x.data *= 2
        return x * 1.0

    with pytest.raises(GradientError, match="doubled: the function writes to its input"):
        check_gradients(doubled, [X.copy()], name="doubled")


def test_a_function_that_is_random_is_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match=r"two evaluations differ; leave out dropout with model\.eval\(\)"):
        check_gradients(lambda x: x * rng.random(), [X])


def test_a_function_that_returns_no_tensor_is_named() -> None:
    with pytest.raises(TypeError, match="the function returned float, expected a Tensor"):
        check_gradients(lambda x: 1.0, [X])  # type: ignore[arg-type, return-value]  # the wrong type is what is tested


def test_leaves_may_be_pairs_of_names_and_tensors() -> None:
    x = Tensor(X.copy(), requires_grad=True)
    assert check_function(lambda: (x * x).sum(), iter([("x", x)])) <= 1e-14
