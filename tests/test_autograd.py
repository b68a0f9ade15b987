"""The graph and the walk back through it: what is added, in what order, what is freed, what is refused."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from autograd_leaves import Loss, X, leaf

from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.grad_mode import is_grad_enabled, no_grad
from nanograd_gpt.gradcheck import check_accumulation, check_gradients, check_ownership
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor, apply

DEEP = 20_000  # nodes; Python's recursion ends near 1000


# Fan-out


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        pytest.param(lambda x: x + x, lambda x: 2 + 0 * x, id="x + x"),
        pytest.param(lambda x: x - x, lambda x: 0 * x, id="x - x"),
        pytest.param(lambda x: x * x * x, lambda x: 3 * x**2, id="x x x"),
        pytest.param(lambda x: (x + x.tanh()) + x, lambda x: 3 - np.tanh(x) ** 2, id="(x + tanh x) + x"),
        pytest.param(
            lambda x: x.exp() + x * x + x.tanh(),
            lambda x: np.exp(x) + 2 * x + 1 - np.tanh(x) ** 2,
            id="three consumers",
        ),
        pytest.param(lambda x: F.concatenate([x, x, x]), lambda x: 3 + 0 * x, id="one op, three times"),
        pytest.param(lambda x: (x + 1) + (x + 1) * 2 + x, lambda x: 4 + 0 * x, id="sums of sums"),
    ],
)
@pytest.mark.parametrize("inner", [False, True], ids=["of a leaf", "of an operation's result"])
def test_a_gradient_sums_over_all_uses(function: Loss, slope: Callable[[Array], Array], inner: bool) -> None:
    x = leaf()
    function(x * 2.0 if inner else x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * slope(2 * X) if inner else slope(X), rtol=1e-14, atol=1e-15)


def test_add_hands_one_gradient_to_two_inputs_and_neither_disturbs_the_other() -> None:
    x, y = leaf(), leaf()
    a, b = x * 1.0, y * 1.0
    (a + b + a.tanh()).sum().backward()
    np.testing.assert_array_equal(y.grad, np.ones_like(X))
    np.testing.assert_allclose(x.grad, 2 - np.tanh(X) ** 2, rtol=1e-15)


def test_a_parameter_of_an_operation_reaches_it_whatever_its_name() -> None:
    class Scale(Function):
        def forward(self, x: Array, *, eps: float, seed: float, tolerance: float, name: float) -> Array:
            self.saved = eps + seed + tolerance + name
            return x * self.saved

        def backward(self, dy: Array) -> tuple[Array]:
            return (dy * self.saved,)

    params = {"eps": 1.0, "seed": 2.0, "tolerance": 4.0, "name": 8.0}
    check_gradients(lambda x: apply(Scale, x, **params), [X])
    check_accumulation(lambda x: apply(Scale, x, **params), [X])
    check_ownership(Scale, [X], params)
    np.testing.assert_array_equal(apply(Scale, leaf(), **params).data, 15 * X)


# The order of the walk


def test_every_node_is_visited_once_and_newest_first_where_sides_differ_in_depth() -> None:
    visited: list[int] = []

    class Numbered(Function):
        def forward(self, *arrays: Array, number: int) -> Array:
            self.saved = number
            return np.add.reduce(arrays)

        def backward(self, dy: Array) -> list[Array]:
            visited.append(self.saved)
            return [dy] * len(self.parents)

    def step(*tensors: Tensor, number: int) -> Tensor:
        return apply(Numbered, *tensors, number=number)

    x = leaf(0.5)
    top = step(x, number=0)
    short = step(top, number=1)
    long = top
    for number in range(2, 6):
        long = step(long, short, number=number)
    step(short, long, top, number=6).backward()
    assert visited == [6, 5, 4, 3, 2, 1, 0]
    assert x.grad == 1 + 1 + 5  # from the end straight to the top; through the short side; through every long one


def test_a_deep_graph_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(DEEP):
        y = y + 1.0
    y.backward()
    assert (y.item(), x.grad) == (DEEP + 1, 1)


def test_a_deep_graph_can_be_dropped_without_backward() -> None:
    y = leaf(1.0)
    for _ in range(DEEP):
        y = -y
    last = weakref.ref(y)
    del y
    assert last() is None


# Memory


def test_memory_falls_node_by_node_on_the_way_back() -> None:
    kept: list[weakref.ref[Array]] = []
    gradients: list[weakref.ref[Array]] = []
    alive: list[tuple[int, int]] = []

    def living(refs: list[weakref.ref[Array]]) -> int:
        return sum(ref() is not None for ref in refs)

    class Keep(Function):
        def forward(self, x: Array) -> Array:
            self.saved = x.copy()
            kept.append(weakref.ref(self.saved))
            return x + 1

        def backward(self, dy: Array) -> tuple[Array]:
            alive.append((living(kept), living(gradients)))
            dx = dy * 1
            gradients.append(weakref.ref(dx))
            return (dx,)

    y = leaf()
    for _ in range(6):
        y = apply(Keep, y)
    y.backward(np.ones_like(X))
    assert [n for n, _ in alive] == [6, 5, 4, 3, 2, 1]
    assert max(n for _, n in alive) <= 2
    assert living(kept) == 0


def test_backward_frees_what_only_the_graph_held_though_the_loss_lives_on() -> None:
    x = leaf()
    hidden = x.tanh()
    array = weakref.ref(hidden.data)
    loss = hidden.sum()
    del hidden
    assert array() is not None
    loss.backward()
    assert array() is None


def test_without_recording_nothing_is_kept() -> None:
    with no_grad():
        hidden = leaf().tanh()
        array = weakref.ref(hidden.data)
        total = hidden.sum()
        del hidden
        assert array() is None
    assert not total.requires_grad


@pytest.mark.parametrize(
    ("make", "named"),
    [
        pytest.param(lambda h: h.sum(), "Sum", id="from the same root"),
        pytest.param(lambda h: h, "Tanh", id="from within the freed part"),
        pytest.param(lambda h: (h * 3).mean(), "Tanh", id="through a part that was freed by another root"),
    ],
)
def test_a_second_backward_is_an_error_that_names_the_operation(make: Loss, named: str) -> None:
    x = leaf()
    hidden = x.tanh()
    again = make(hidden)
    loss = again if named == "Sum" else hidden.sum()
    loss.backward()
    assert x.grad is not None
    first = x.grad.copy()
    with pytest.raises(
        RuntimeError, match=rf"^{named}: backward was called before and freed the graph; run forward again"
    ):
        again.backward(np.ones(again.shape))
    np.testing.assert_array_equal(x.grad, first)


# no_grad


def test_no_grad_nests_and_ends_after_an_exception() -> None:
    def nested() -> None:
        with no_grad():
            with no_grad():
                assert not is_grad_enabled()
            assert not is_grad_enabled()
            assert not (leaf() * 2).requires_grad
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nested()
    assert is_grad_enabled()
    assert (leaf() * 2).requires_grad


def test_no_grad_decorates_a_function_that_may_be_called_again() -> None:
    @no_grad()
    def double(x: Tensor) -> Tensor:
        return x * 2

    assert not double(leaf()).requires_grad
    assert not double(leaf()).requires_grad
    assert is_grad_enabled()


def test_a_leaf_made_without_recording_is_a_leaf() -> None:
    with no_grad():
        x = leaf()
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full_like(X, 3))


def test_no_grad_is_of_its_own_thread_and_context() -> None:
    seen: list[bool] = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((leaf() * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]
    inside, block = contextvars.copy_context(), no_grad()
    inside.run(block.__enter__)
    assert not inside.run(is_grad_enabled)
    assert is_grad_enabled()
    inside.run(block.__exit__, None, None, None)
    assert inside.run(is_grad_enabled)


# Re-entrancy


def test_an_operation_used_twice_before_backward_keeps_its_two_uses_apart() -> None:
    x, y = leaf(), leaf(X + 1)
    of_x, of_y = F.gelu(x).sum(), F.gelu(y).sum()
    of_x.backward()
    of_y.backward()
    alone = leaf()
    F.gelu(alone).sum().backward()
    np.testing.assert_array_equal(x.grad, alone.grad)
    assert not np.allclose(x.grad, y.grad)


# Errors


@pytest.mark.parametrize(
    ("call", "note"),
    [
        (lambda: leaf() @ np.ones((2, 2), np.float32), "in MatMul(float64[2, 3], float32[2, 2])"),
        (lambda: leaf().reshape(4, 4), "in Reshape(float64[2, 3], shape=(4, 4))"),
        (lambda: F.layer_norm(leaf(), leaf([1.0]), leaf([1.0, 2.0]), 0.5),
         "in LayerNorm(float64[2, 3], float64[1], float64[2], eps=0.5)"),
        (lambda: F.embedding(np.array([7]), leaf()), "in Embedding(float64[2, 3], ids=int64[1], checked=False)"),
        (lambda: leaf() + np.array("x"), "in Add(float64[2, 3], <U1[])"),
        (lambda: apply(Function, leaf()), "in Function(float64[2, 3])"),
    ],
    ids=["dtypes", "a tuple", "a number", "an array", "an array of text", "no forward rule"],
)  # fmt: skip
def test_an_exception_leaves_a_note_of_operation_dtypes_shapes_and_parameters(call: Loss, note: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError)) as error:
        call()
    assert error.value.__notes__ == [note]


def test_an_operation_without_a_backward_rule_says_so() -> None:
    class Half(Function):
        def forward(self, x: Array) -> Array:
            return x / 2

    with pytest.raises(TypeError, match="Half has no backward rule"):
        apply(Half, leaf()).backward(np.ones_like(X))


class Forgetful(Function):
    """Has a gradient for one of its two inputs."""

    def forward(self, x: Array, y: Array) -> Array:
        return x + y

    def backward(self, dy: Array) -> tuple[Array]:
        return (dy,)


def test_too_few_gradients_are_an_error() -> None:
    with pytest.raises(TypeError, match="1 gradients were returned for 2 inputs"):
        apply(Forgetful, leaf(), leaf()).backward(np.ones_like(X))


def test_an_exception_on_the_way_back_names_its_operation_too() -> None:
    with pytest.raises(TypeError) as error:
        apply(Forgetful, leaf(), leaf()).backward(np.ones_like(X))
    assert any("Forgetful" in note for note in getattr(error.value, "__notes__", []))


def operation(forward: Any = lambda op, x: x, backward: Any = lambda op, dy: (dy,)) -> type[Function]:
    return type("Op", (Function,), {"forward": forward, "backward": backward})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (1.0, "Op.forward returned a float; return one array"),
        ([1.0], "Op.forward returned a list; return one array"),
        ((X, X), "Op.forward returned a tuple; return one array"),
        (Tensor(X), "Op.forward returned a Tensor; return one array; inside forward, use NumPy's functions"),
        (None, "Op.forward returned a NoneType; return one array"),
        (np.array("x"), "Op: the result is an array of <U1; a Tensor holds numbers or bools"),
        (np.array([None]), "Op: the result is an array of object; a Tensor holds numbers or bools"),
    ],
    ids=["float", "list", "tuple", "Tensor", "None", "text", "objects"],
)
def test_forward_returns_one_array_of_numbers(result: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        apply(operation(forward=lambda op, x: result), leaf())


@pytest.mark.parametrize("shape", [(2, 3), (1,)])  # an array of length 1 would pass for one gradient
def test_backward_returns_a_tuple(shape: tuple[int, ...]) -> None:
    x = leaf(np.ones(shape))
    for result, kind in ((np.ones(shape), "an array"), (None, "NoneType"), (iter([X]), "list_iterator")):
        with pytest.raises(TypeError, match=f"backward returned {kind}; return a tuple with one gradient per input"):
            apply(operation(backward=lambda op, dy, result=result: result), x).backward(np.ones(shape))


@pytest.mark.parametrize("operand", [X, [1.0, 2.0]])
def test_an_instance_in_place_of_the_class_is_named(operand: Any) -> None:
    with pytest.raises(TypeError, match=r"Op\(\) is an instance of the operation Op; give the class: apply\(Op, x\)"):
        apply(operation()(), operand)  # type: ignore[arg-type]  # the wrong argument is what is tested
