"""Messages of the gradient checks: arguments of the wrong kind, the place of an error, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.gradcheck import GradientError, check_accumulation, check_function, check_gradients, check_ownership
from nanograd_gpt.nn.layers import Linear
from nanograd_gpt.ops.elementwise import Exp, Mul
from nanograd_gpt.tensor import Tensor, apply

X = np.random.default_rng(0).standard_normal((2, 3))
model = Linear(3, 2)


def loss() -> Tensor:
    return model(Tensor(X)).sum()


class BroadcastMul(Mul):
    """x * y, whose gradients keep the broadcast axes."""

    __slots__ = ()

    def backward(self, dz: Array) -> tuple[Array, Array]:
        x, y = self.saved
        return dz * y, dz * x


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a result": (
        lambda: check_function(loss(), model.named_parameters()),  # type: ignore[arg-type]  # the wrong type is what is tested
        "function: output is a Tensor; give a function that computes it, such as lambda: loss",
    ),
    "parameters": (
        lambda: check_function(loss, model.parameters()),  # type: ignore[arg-type]  # the wrong type is what is tested
        r"function: leaves: expected names with Tensors, got a Parameter; give model.named_parameters\(\)",
    ),
    "state_dict": (
        lambda: check_function(loss, model.state_dict()),  # type: ignore[arg-type]  # the wrong type is what is tested
        "function: leaves: expected names with Tensors, got a ndarray; give model.named_parameters",
    ),
    "one leaf": (
        lambda: check_function(loss, model.weight),  # type: ignore[arg-type]  # the wrong type is what is tested
        "function: leaves: expected names with Tensors, got a Tensor; give model.named_parameters",
    ),
    "one array": (
        lambda: check_gradients(lambda x: x.exp(), X),  # type: ignore[arg-type]  # the wrong type is what is tested
        r"function: inputs is an ndarray; give a list with one entry per argument: \[x\]",
    ),
    "a class": (
        lambda: check_gradients(Exp, [X]),  # type: ignore[arg-type]  # the wrong type is what is tested
        r"function: Exp is the class of an operation; give lambda \*inputs: apply\(Exp, \*inputs\)",
    ),
    "a result of a function": (
        lambda: check_gradients(loss(), [X]),  # type: ignore[arg-type]  # the wrong type is what is tested
        "function: expected a function of Tensors, got a Tensor",
    ),
    "ownership, a list": (
        lambda: check_ownership(Exp, [[1.0, 2.0]], {}),  # type: ignore[list-item]  # the wrong type is what is tested
        "input 0 is a list; give NumPy arrays",
    ),
    "accumulation, a list": (
        lambda: check_accumulation(lambda x: x.exp(), [[1.0, 2.0]]),  # type: ignore[list-item]  # the wrong type is what is tested
        "input 0 is a list; give NumPy arrays",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_the_wrong_kind_is_one_type_error(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


def test_the_element_of_a_small_function_is_named() -> None:
    class Off(Function):
        def forward(self, x: Array) -> Array:
            return 2 * x

        def backward(self, dy: Array) -> tuple[Array]:
            dx = 2 * dy
            dx[1, 2] *= 3
            return (dx,)

    expected = r"gradient of input 0, element \(1, 2\) for element \(1, 2\) of the result: 6 by backward, 2 by"
    with pytest.raises(GradientError, match=expected):
        check_gradients(lambda x: apply(Off, x), [X])


def test_only_the_complex_step_asks_for_an_analytic_function() -> None:
    class Wrong(Exp):
        __slots__ = ()

        def backward(self, dy: Array) -> tuple[Array]:
            return (dy,)

    for method, hint in (("complex step", True), ("central", False)):
        with pytest.raises(GradientError) as raised:
            check_gradients(lambda x: apply(Wrong, x), [X], method=method)  # type: ignore[arg-type]  # a str
        hinted = "if the function is not analytic (abs, max at a tie, relu at 0), use method='central'"
        assert (hinted in str(raised.value)) == hint


def test_a_gradient_of_a_wrong_shape_names_its_operation_and_input() -> None:
    expected = (
        r"^in BroadcastMul.backward, for input 1: a gradient has shape \(2, 3\), its tensor \(3,\); "
        "sum over the broadcast axes$"
    )
    with pytest.raises(GradientError, match=expected):
        check_gradients(lambda x, y: apply(BroadcastMul, x, y).exp(), [X, X[0]])


def test_a_gradient_of_a_wrong_shape_that_several_operations_may_have_made_names_none() -> None:
    with pytest.raises(GradientError, match=r"^a gradient has shape \(2, 3\), its tensor \(3,\)"):
        check_gradients(lambda x, y: apply(BroadcastMul, x, y) + apply(BroadcastMul, x, y), [X, X[0]])
