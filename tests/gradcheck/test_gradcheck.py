"""The checker itself: what it catches, what it says, what it leaves alone, and how exact its methods are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.contract import Array, GradOut
from nanograd_gpt.gradcheck import (
    GradientError,
    central_difference,
    check_accumulation,
    check_function,
    check_gradients,
    check_hessian_symmetry,
    check_ownership,
    complex_step,
    forward_difference,
    richardson,
)
from nanograd_gpt.nn import functional as F
from nanograd_gpt.ops.elementwise import Exp, Mul, Neg
from nanograd_gpt.tensor import Tensor, apply

X, Y = np.random.default_rng(0).standard_normal((2, 3, 4))


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape)


def product(backward: Callable[[Function, Array], Sequence[Any]]) -> type[Function]:
    """x * y with a rule of one's own."""
    return type("Product", (Mul,), {"backward": backward})


def use(op: type[Function]) -> Callable[..., Tensor]:
    return lambda *tensors: apply(op, *tensors)


# check_gradients


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        (lambda op, dz: (dz * op.saved[1], dz * op.saved[1]), "input 1"),
        (lambda op, dz: (dz * op.saved[1] * (1 + 1e-10), dz * op.saved[0]), "input 0"),
        (lambda op, dz: (dz * op.saved[1], None), "input 1"),
        (lambda op, dz: (dz * np.nan, dz * op.saved[0]), "input 0"),
        (lambda op, dz: (dz * op.saved[1], dz * op.saved[0].astype(np.float32)), "input 1"),
    ],
    ids=["another rule", "off by 1e-10", "a gradient missing", "nan", "float32 on the way"],
)
def test_a_wrong_gradient_is_caught_at_its_input(rule: Any, place: str) -> None:
    with pytest.raises(GradientError, match=f"^the product: gradient of {place}"):
        check_gradients(use(product(rule)), [X, Y], name="the product")


def test_the_message_names_the_place_both_numbers_the_error_and_the_limit() -> None:
    triple = product(lambda op, dz: (dz * 3.0, dz * op.saved[0]))
    with pytest.raises(GradientError) as error:
        check_gradients(use(triple), [np.ones(1), np.full(1, 2.0)], tolerance=1e-3)
    pattern = (
        r"function: gradient of input 0, element \(0,\) for element \(0,\) of the result: "
        r"(\S+) by backward, (\S+) by complex step; relative error 3\.3e-01 is above 1e-03; if the function is not "
        r"analytic \(abs, max at a tie, relu at 0\), use method='central' and points away from kinks"
    )
    found = re.fullmatch(pattern, str(error.value))
    assert found is not None
    assert float(found[1]) / float(found[2]) == pytest.approx(1.5)


def test_a_right_gradient_passes_and_the_error_is_returned() -> None:
    assert 0 <= check_gradients(lambda x, y: (x * y).tanh(), [X, Y]) <= 1e-14
    roughly = product(lambda op, dz: (dz * op.saved[1] * (1 + 1e-6), dz * op.saved[0]))
    assert check_gradients(use(roughly), [X, Y], tolerance=1e-5) == pytest.approx(1e-6, rel=0.5)


def test_an_array_given_twice_is_one_tensor() -> None:
    def same(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        assert x is y
        assert x is not z
        return x * y + z

    check_gradients(same, [X, X, X.copy()])
    left_alone = product(lambda op, dz: (dz * op.saved[1], None))
    with pytest.raises(GradientError):
        check_gradients(use(left_alone), [X, X])


def test_float32_is_checked_in_float64_and_integers_are_handed_over() -> None:
    ids = np.array([0, 2])

    def rows(x: Tensor, index: Any) -> Tensor:
        assert index is ids
        assert x.dtype.itemsize >= 8
        return F.embedding(index, x) * 2

    check_gradients(rows, [X.astype(np.float32), ids])


@pytest.mark.parametrize("method", ["complex step", "central"])
def test_both_methods_pass_beside_a_kink_and_catch_a_wrong_side(method: Any) -> None:
    check_gradients(F.maximum, [X, Y], method=method)
    with pytest.raises(GradientError, match=f"by {method}"):
        check_gradients(use(product(lambda op, dz: (dz, dz))), [X, Y], method=method)


def test_a_function_that_is_not_analytic_is_checked_by_central_differences() -> None:
    class Modulus(Function):
        def forward(self, x: Array) -> Array:
            self.saved = np.sign(x.real)
            return np.abs(x)

        def backward(self, dy: Array) -> tuple[Array]:
            return (dy * self.saved,)

    check_gradients(use(Modulus), [X], method="central")
    with pytest.raises(GradientError):
        check_gradients(use(Modulus), [X])


def test_only_a_function_of_its_inputs_alone_passes() -> None:
    calls: list[int] = []

    def drifting(x: Tensor) -> Tensor:
        calls.append(1)
        return x * float(len(calls))

    with pytest.raises(GradientError):
        check_gradients(drifting, [X])


def test_a_wrong_element_among_thousands_is_found() -> None:
    def off_at_one(op: Function, dz: Array) -> tuple[Array, Array]:
        dx = dz * op.saved[1]
        dx.flat[3210] += 1e-9
        return dx, dz * op.saved[0]

    with pytest.raises(GradientError, match="input 0 along a random direction"):
        check_gradients(use(product(off_at_one)), [normal(50, 100), normal(50, 100)])


def test_a_gradient_of_another_shape_that_broadcasts_is_caught() -> None:
    class Total(Function):
        def forward(self, x: Array) -> Array:
            return x.sum(axis=1, keepdims=True)

        def backward(self, dy: Array) -> tuple[Array]:
            return (dy,)  # (40, 1) for an input of (40, 5)

    with pytest.raises(GradientError):
        check_gradients(use(Total), [normal(40, 5)])
    with pytest.raises(GradientError):
        check_accumulation(use(Total), [normal(40, 5)])


# check_function


def test_a_models_leaves_are_named_and_left_as_they_were() -> None:
    leaves = {"weight": Tensor(X.astype(np.float32), True), "bias": Tensor(np.ones(3), True)}
    before = {name: (t.data, t.node) for name, t in leaves.items()}
    wrong = product(lambda op, dz: (dz * op.saved[1], dz.sum(axis=0)))
    right, broken = (
        lambda: F.linear(Tensor(normal(5, 4)), leaves["weight"], leaves["bias"]).tanh(),
        lambda: apply(wrong, Tensor(normal(5, 3)), leaves["bias"]),
    )
    assert check_function(right, leaves) <= 1e-12
    with pytest.raises(GradientError, match="gradient of bias"):
        check_function(broken, leaves)
    for name, tensor in leaves.items():
        assert (tensor.data, tensor.node) == before[name]
        assert tensor.grad is None


def test_exhaustive_compares_every_element_of_a_large_leaf() -> None:
    swapped = product(lambda op, dz: (dz * op.saved[1], (dz * op.saved[0])[::-1].copy()))
    leaves = {"x": Tensor(normal(20, 10), True), "y": Tensor(normal(20, 10), True)}

    def output() -> Tensor:
        return apply(swapped, leaves["x"], leaves["y"])

    with pytest.raises(GradientError, match=r"gradient of y, element \(\d+, \d\): "):
        check_function(output, leaves, directions=0, exhaustive=True)


# check_ownership and check_accumulation


def spoil_dz(op: Function, dz: Array) -> tuple[Array, Array]:
    dx = dz * op.saved[1]
    dz *= op.saved[0]
    return dx, dz


def spoil_x(op: Function, dz: Array) -> tuple[Array, Array]:
    x, y = op.saved
    dx = dz * y
    x *= dz
    return dx, x[...]


def one_for_both(op: Function, dz: Array) -> tuple[Array, Array]:
    shared = dz * 1
    return shared, shared


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (one_for_both, "Product: the gradient of input 1 shares memory with another array"),
        (lambda op, dz: op.saved[::-1], "Product: the gradient of input 0 shares memory with another array"),
        (spoil_x, "Product: input 0 was written to"),
        (spoil_dz, "Product: dy was written to"),
    ],
    ids=["one new array for two inputs", "what was saved", "an input", "dy"],
)
def test_memory_that_is_not_its_own_is_caught(rule: Any, message: str) -> None:
    with pytest.raises(GradientError, match=message):
        check_ownership(product(rule), [X.copy(), Y.copy()], {})


@pytest.mark.parametrize(
    "rule",
    [
        lambda op, dz: (dz, dz),
        lambda op, dz: (dz[...], dz.T.T),
        lambda op, dz: (np.broadcast_to(dz, dz.shape), dz * 1),
        lambda op, dz: (None, dz * op.saved[0]),
    ],
    ids=["dy itself", "views of dy", "a view and a new array", "none"],
)
def test_dy_a_view_and_a_new_array_are_allowed(rule: Any) -> None:
    check_ownership(product(rule), [X, Y], {})


def test_an_operation_that_saves_nothing_is_checked() -> None:
    check_ownership(Neg, [X], {})


def test_an_operation_that_writes_to_its_own_output_is_caught() -> None:
    def spoil(op: Function, dy: Array) -> tuple[Array]:
        op.saved *= dy
        return (op.saved * 1,)

    with pytest.raises(GradientError):
        check_ownership(type("Broken", (Exp,), {"backward": spoil}), [X], {})


def into(how: Callable[[GradOut], GradOut], back: Callable[[GradOut], Any] = lambda sink: sink) -> type[Function]:
    """x * y that leaves dx in its sink, which it takes for another."""

    def rule(op: Function, dz: Array) -> tuple[Any, Array]:
        x, y = op.saved
        sink = op.grad_out(0, x)
        if sink is not None:
            how(sink).write(dz * y)
        return sink and back(sink), dz * x

    return product(rule)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (into(lambda sink: sink._replace(accumulate=False)), "of input 0, added to an earlier one, differs"),
        (into(lambda sink: sink._replace(accumulate=True)), "of input 0, into a buffer, differs"),
        (
            into(lambda sink: sink, lambda sink: sink if sink.accumulate else sink._replace(array=sink.array.copy())),
            "of input 0 is not in its buffer",
        ),
        (
            product(lambda op, dz: (dz * op.saved[1] if op.needs_input_grad(1) else None, dz * op.saved[0])),
            "of input 0 alone is missing",
        ),
        (
            product(lambda op, dz: (dz * op.saved[1] * (1 + op.needs_input_grad(1)), dz * op.saved[0])),
            "of input 0 alone differs",
        ),
    ],
    ids=["add ignored", "stale memory added to", "memory of its own", "only in company", "another in company"],
)
def test_a_gradient_that_depends_on_how_it_is_asked_for_is_caught(op: type[Function], message: str) -> None:
    rubbish = np.full_like(X, 1e3)  # what NumPy may find in a new array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty_like", lambda a, **_: rubbish[: len(a)].copy())
        with pytest.raises(GradientError, match=message):
            check_accumulation(use(op), [X, Y])


def test_a_right_sink_passes() -> None:
    check_accumulation(use(into(lambda sink: sink)), [X, Y])
    check_ownership(into(lambda sink: sink), [X, Y], {})


# Second order


def test_a_networks_hessian_is_symmetric() -> None:
    leaves = {
        name: Tensor(normal(*shape), requires_grad=True)
        for name, shape in {"w": (6, 4), "b": (6,), "scale": (6,), "shift": (6,), "head": (5, 6)}.items()
    }
    targets = np.array([1, 4, 0])

    def loss() -> Tensor:
        h = F.linear_gelu(Tensor(normal(3, 4)), leaves["w"], leaves["b"])
        h = F.layer_norm(h, leaves["scale"], leaves["shift"])
        return F.linear_cross_entropy(h, leaves["head"], targets)

    assert check_hessian_symmetry(loss, leaves) <= 1e-12


def test_a_rule_that_is_no_functions_gradient_has_no_symmetric_hessian() -> None:
    class Twisted(Function):
        """sum(x^2) / 2, with A x for its gradient"""

        def forward(self, x: Array) -> Array:
            self.saved = x
            return (x * x).sum() / 2

        def backward(self, dy: Array) -> tuple[Array]:
            A = np.array([[1.0, 1e-9], [0.0, 1.0]])
            return (dy * (A @ self.saved),)

    x = Tensor(np.array([0.3, -0.7]), requires_grad=True)
    with pytest.raises(GradientError, match=r"Hessian: u'Hv = \S+ but v'Hu = \S+"):
        check_hessian_symmetry(lambda: apply(Twisted, x), {"x": x})


def test_a_linear_function_has_a_symmetric_hessian() -> None:
    x = Tensor(X.copy(), requires_grad=True)
    assert check_hessian_symmetry(lambda: (x * 3.0).sum(), {"x": x}) == 0


# The numeric methods: f(x) = exp(x) tanh(x), whose derivative is exp(x) (1 + tanh(x) - tanh(x)^2)

AT = np.array([0.4, -0.9, 1.3])
DERIVATIVE = np.exp(AT) * (1 + np.tanh(AT) - np.tanh(AT) ** 2)

Numeric = Callable[..., Array]


def worst_error(method: Numeric, dtype: type = np.float64, **step: float) -> float:
    x = Tensor(AT.astype(dtype))
    derivative = method(lambda: (x.exp() * x.tanh()).data, x, np.ones(3), **step)
    np.testing.assert_array_equal(x.data, AT)  # left as it was
    return float(np.max(np.abs(derivative - DERIVATIVE) / np.abs(DERIVATIVE)))


@pytest.mark.parametrize(
    ("method", "order", "step"),
    [(forward_difference, 1, 1e-4), (central_difference, 2, 1e-3), (richardson, 6, 0.2)],
    ids=["forward", "central", "richardson"],
)
def test_halving_the_step_divides_the_error_by_2_to_the_order(method: Numeric, order: int, step: float) -> None:
    ratio = worst_error(method, step=step) / worst_error(method, step=step / 2)
    assert ratio == pytest.approx(2**order, rel=0.05)


@pytest.mark.parametrize(
    ("method", "least", "most"),
    [(forward_difference, 1e-10, 1e-7), (central_difference, 1e-13, 1e-9), (richardson, 0, 1e-12)],
    ids=["forward", "central", "richardson"],
)
def test_at_its_default_step_a_method_is_as_exact_as_it_can_be(method: Numeric, least: float, most: float) -> None:
    assert least <= worst_error(method) <= most


def test_the_complex_step_is_exact_to_rounding() -> None:
    assert worst_error(complex_step, np.complex128) <= 4e-16


def test_a_method_restores_the_tensor_after_an_exception() -> None:
    def fail() -> Array:
        raise ZeroDivisionError

    for method, dtype in ((complex_step, np.complex128), (central_difference, np.float64)):
        x = Tensor(AT.astype(dtype))
        with pytest.raises(ZeroDivisionError):
            method(fail, x, np.ones(3))
        np.testing.assert_array_equal(x.data, AT)
