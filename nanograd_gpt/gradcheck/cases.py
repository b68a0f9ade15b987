"""Gradient-check cases of every operation: plain, size 1, empty, broadcast, strided, stride 0, one array twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np

from ..autograd import Function
from ..backend.contract import Array
from ..ops import activation, attention, dropout, elementwise, embedding, loss, matmul, norm, reduce, shape
from ..tensor import Tensor, apply
from .check import Method, check_gradients
from .ownership import check_accumulation, check_ownership

Make = Callable[..., Array]  # a shape -> an array


@dataclass(frozen=True)
class Case:
    """One call of an operation; an array that occurs twice in `inputs` is one Tensor used twice."""

    op: type[Function]
    what: str
    inputs: tuple[Array, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    method: Method = "complex step"

    def __call__(self, *tensors: Tensor) -> Tensor:
        return apply(self.op, *tensors, **self.params)

    def __str__(self) -> str:
        return f"{self.op.__name__}, {self.what}"

    @property
    def is_empty(self) -> bool:
        """Whether the result, or every float input, has no elements."""
        return self(*map(Tensor, self.inputs)).size == 0 or not any(a.size for a in self.inputs if a.dtype.kind == "f")

    def check(self) -> float:
        """Check gradients and memory rules; returns the worst relative error, nan for empty cases.

        Raises GradientError.
        """
        check_ownership(self.op, self.inputs, self.params)
        check_accumulation(self, self.inputs)
        return nan if self.is_empty else check_gradients(self, self.inputs, method=self.method, name=str(self))


_rng = np.random.default_rng()  # reset by cases(): every call yields the same numbers
SEED = np.random.default_rng(2024).bit_generator.state


def normal(*shape: int) -> Array:
    """An array of standard normal numbers."""
    return _rng.standard_normal(shape)


def positive(*shape: int) -> Array:
    """Uniform numbers in 0.5 .. 2, for logarithms, roots and divisors."""
    return _rng.uniform(0.5, 2.0, shape)


def mask(*shape: int) -> Array:
    """Bools, true with probability 0.7."""
    return _rng.random(shape) < 0.7


def strided(make: Make, *shape: int) -> Array:
    """A view of every second element, the last axis reversed."""
    a = make(*(2 * n for n in shape))
    return a[tuple(slice(None, None, 2) for _ in shape)][..., ::-1]


def transposed(make: Make, *shape: int) -> Array:
    """A transposed view, in Fortran order."""
    return make(*reversed(shape)).T


def repeated(make: Make, *shape: int) -> Array:
    """One row broadcast to many: stride 0."""
    return np.broadcast_to(make(1, *shape[1:]), shape)


LAYOUTS: dict[str, Callable[..., Array]] = {
    "strided": strided,
    "transposed": transposed,
    "stride 0": repeated,
}


def cases() -> Iterator[Case]:
    """Every case of every operation."""
    _rng.bit_generator.state = SEED
    yield from unary_cases()
    yield from binary_cases()
    yield from reduction_cases()
    yield from shape_cases()
    yield from matmul_cases()
    yield from linear_cases()
    yield from fused_cases()
    yield from loss_cases()
    yield from kink_cases()


def in_every_layout(op: type[Function], make: Make, *rest: Array, **params: Any) -> Iterator[Case]:
    """Cases with the first input as (3, 4) in every layout."""
    yield Case(op, "plain", (make(3, 4), *rest), params)
    for what, layout in LAYOUTS.items():
        yield Case(op, what, (layout(make, 3, 4), *rest), params)


def unary_cases() -> Iterator[Case]:
    """Cases of functions of one array."""
    for op, make in (
        (elementwise.Neg, normal),
        (elementwise.Exp, normal),
        (elementwise.Log, positive),
        (elementwise.Sqrt, positive),
        (elementwise.Tanh, normal),
        (activation.GELU, normal),
    ):
        yield from in_every_layout(op, make)
        yield Case(op, "no axes", (make(),))
        yield Case(op, "size 1", (make(1, 1),))
        yield Case(op, "empty", (make(0, 3),))
    yield Case(activation.GELU, "far from 0", (np.array([-30.0, -6.0, -1e-9, 0.0, 5.0, 40.0]),))


def binary_cases() -> Iterator[Case]:
    """Cases of functions of two arrays that broadcast."""
    for op, make in (
        (elementwise.Add, normal),
        (elementwise.Sub, normal),
        (elementwise.Mul, normal),
        (elementwise.Div, positive),
        (elementwise.Pow, positive),
    ):
        yield from in_every_layout(op, make, make(3, 4))
        yield Case(op, "broadcast on both sides", (make(2, 1, 4), make(3, 1)))
        yield Case(op, "broadcast from no axes", (make(), make(2, 3)))
        yield Case(op, "broadcast from one element", (make(2, 3), make(1, 1, 1)))
        yield Case(op, "size 1", (make(1), make(1)))
        yield Case(op, "empty", (make(0, 3), make(3)))
        yield Case(op, "stride 0 on the right", (make(3, 4), repeated(make, 3, 4)))
        twice = make(3, 2)
        yield Case(op, "one array twice", (twice, twice))
    yield Case(elementwise.Pow, "a negative base, an integer exponent", (normal(3) - 3, np.array(3)))
    yield Case(elementwise.Where, "plain", (normal(3, 4), normal(3, 4)), {"condition": mask(3, 4)})
    yield Case(elementwise.Where, "broadcast", (normal(3, 1), normal(4)), {"condition": mask(2, 1, 1)})
    yield Case(elementwise.Where, "stride 0", (repeated(normal, 3, 4), normal(4)), {"condition": mask(3, 4)})
    yield Case(elementwise.Where, "size 1", (normal(1), normal(1)), {"condition": mask(1)})
    yield Case(elementwise.Where, "empty", (normal(0, 4), normal(4)), {"condition": mask(4)})
    both = strided(normal, 2, 3)
    yield Case(elementwise.Where, "one array twice, strided", (both, both), {"condition": mask(2, 3)})


def reduction_cases() -> Iterator[Case]:
    """Cases of reductions and softmax."""
    for op in (reduce.Sum, reduce.Mean, reduce.LogSumExp):
        yield from in_every_layout(op, normal, axis=None, keepdims=False)
        for axis in (0, -1, (0, 2), None):
            for keepdims in (False, True):
                params = {"axis": axis, "keepdims": keepdims}
                yield Case(op, f"axis {axis}, keepdims {keepdims}", (normal(2, 3, 4),), params)
        yield Case(op, "size 1", (normal(1, 1),), {"axis": 1, "keepdims": False})
        yield Case(op, "empty", (normal(0, 3),), {"axis": 1, "keepdims": False})
    for softmax in (activation.Softmax, activation.LogSoftmax):
        yield from in_every_layout(softmax, normal)
        yield Case(softmax, "axis 0", (normal(3, 4),), {"axis": 0})
        yield Case(softmax, "size 1", (normal(1, 1),))
        yield Case(softmax, "empty", (normal(0, 3),))
        yield Case(softmax, "large", (np.array([[800.0, 801.0, -700.0]]),))


def shape_cases() -> Iterator[Case]:
    """Cases of shape operations."""
    yield from in_every_layout(shape.Reshape, normal, shape=(2, -1))
    yield Case(shape.Reshape, "to no axes", (normal(1, 1),), {"shape": ()})
    yield Case(shape.Reshape, "empty", (normal(0, 3),), {"shape": (3, 0)})
    yield from in_every_layout(shape.Transpose, normal, axes=(1, 0))
    yield Case(shape.Transpose, "a cycle of three axes", (normal(2, 3, 4),), {"axes": (2, 0, 1)})
    yield Case(shape.Transpose, "negative axes", (normal(2, 3, 4),), {"axes": (-2, -1, 0)})
    yield Case(shape.Transpose, "size 1", (normal(1, 1),), {"axes": (1, 0)})
    yield Case(shape.Transpose, "empty", (normal(0, 3),), {"axes": (1, 0)})
    yield from in_every_layout(shape.BroadcastTo, normal, shape=(2, 3, 4))
    yield Case(shape.BroadcastTo, "along an axis of 1", (normal(3, 1),), {"shape": (2, 3, 4)})
    yield Case(shape.BroadcastTo, "size 1", (normal(1),), {"shape": (2, 1)})
    yield Case(shape.BroadcastTo, "empty", (normal(1, 3),), {"shape": (0, 3)})
    yield from index_cases()
    twice = normal(2, 3)
    for axis in (0, -1):
        yield Case(shape.Concatenate, f"axis {axis}", (twice, normal(2, 3), twice), {"axis": axis})
        yield Case(shape.Stack, f"axis {axis}", (twice, strided(normal, 2, 3), twice), {"axis": axis})
    yield Case(shape.Concatenate, "different lengths, one empty", (normal(2, 3), normal(0, 3)), {"axis": 0})
    yield Case(shape.Concatenate, "strided", (strided(normal, 2, 3), transposed(normal, 2, 3)), {"axis": 1})
    yield Case(shape.Concatenate, "stride 0", (repeated(normal, 2, 3), normal(1, 3)), {"axis": 0})
    yield Case(shape.Concatenate, "one alone", (normal(1),), {"axis": 0})
    yield Case(shape.Stack, "stride 0", (repeated(normal, 3, 2), normal(3, 2)), {"axis": 1})
    yield Case(shape.Stack, "size 1", (normal(1),), {"axis": 0})
    yield Case(shape.Stack, "empty", (normal(0, 3), normal(0, 3)), {"axis": 1})


def index_cases() -> Iterator[Case]:
    """Cases of indexing."""
    x = normal(3, 4)
    for what, index in {
        "one number": 1,
        "a slice": slice(None, None, -2),
        "all, and a new axis": (..., None, 2),
        "a mask": x > 0,
        "repeated indices": np.array([2, 0, 2, 2]),
        "pairs of indices, repeated": (np.array([[0, 0], [2, 0]]), np.array([1, 1])),
        "a slice beside repeated indices": (slice(1, None), np.array([3, -1, 0])),
        "nothing": np.array([], dtype=np.int64),
    }.items():
        yield Case(shape.GetItem, what, (x,), {"index": index})
    yield Case(shape.GetItem, "size 1", (normal(1),), {"index": np.array([0, 0])})
    yield from in_every_layout(shape.GetItem, normal, index=np.array([0, 0, 1]))


def matmul_cases() -> Iterator[Case]:
    """Cases of matmul."""
    for what, a, b in (
        ("matrices", (3, 4), (4, 2)),
        ("a batch", (2, 3, 4), (2, 4, 2)),
        ("batches that broadcast", (2, 1, 3, 4), (5, 4, 2)),
        ("a matrix on a batch", (3, 4), (2, 4, 2)),
        ("two vectors", (4,), (4,)),
        ("vector and matrix", (4,), (4, 2)),
        ("matrix and vector", (3, 4), (4,)),
        ("vector and batch", (4,), (2, 4, 3)),
        ("batch and vector", (2, 3, 4), (4,)),
        ("size 1", (1, 1), (1, 1)),
        ("no rows", (0, 4), (4, 2)),
        ("nothing to sum over", (3, 0), (0, 2)),
    ):
        yield Case(matmul.MatMul, what, (normal(*a), normal(*b)))
    yield from in_every_layout(matmul.MatMul, normal, normal(4, 2))
    yield Case(matmul.MatMul, "strided on the right", (normal(2, 3), strided(normal, 3, 4)))
    square = normal(3, 3)
    yield Case(matmul.MatMul, "one array twice", (square, square))


def linear_cases() -> Iterator[Case]:
    """Cases of linear layers."""
    for op in (matmul.Linear, matmul.LinearGELU):
        yield Case(op, "with bias", (normal(2, 3, 4), normal(5, 4), normal(5)))
        yield Case(op, "without bias", (normal(2, 3, 4), normal(5, 4)))
        yield Case(op, "one vector", (normal(4), normal(5, 4), normal(5)))
        yield Case(op, "size 1", (normal(1, 1), normal(1, 1), normal(1)))
        yield Case(op, "no rows", (normal(0, 4), normal(2, 4), normal(2)))
        yield from in_every_layout(op, normal, strided(normal, 2, 4), normal(2))
        square = normal(3, 3)
        yield Case(op, "one array twice", (square, square))
    yield from packed_linear_cases()


def packed_linear_cases() -> Iterator[Case]:
    """Cases of packed linear layers."""
    op = matmul.PackedLinear
    weights, biases = [normal(2, 4) for _ in range(3)], [normal(2) for _ in range(3)]
    yield Case(op, "with biases", (normal(2, 3, 4), *weights, *biases), {"n": 3})
    yield Case(op, "without biases", (normal(2, 3, 4), *weights), {"n": 3})
    yield Case(op, "strided", (strided(normal, 3, 4), transposed(normal, 2, 4), repeated(normal, 2, 4)), {"n": 2})
    yield Case(op, "one weight", (normal(1, 1), normal(1, 1)), {"n": 1})
    yield Case(op, "no rows", (normal(0, 4), *weights), {"n": 3})
    yield Case(op, "one weight and bias three times", (normal(3, 4), *[weights[0]] * 3, *[biases[0]] * 3), {"n": 3})


def fused_cases() -> Iterator[Case]:
    """Cases of LayerNorm, attention, embedding and dropout."""
    yield from in_every_layout(norm.LayerNorm, normal, positive(4), normal(4), eps=1e-5)
    yield Case(norm.LayerNorm, "three axes, a large eps", (normal(2, 3, 5), positive(5), normal(5)), {"eps": 0.3})
    yield Case(norm.LayerNorm, "one vector", (normal(6), positive(6), normal(6)))
    yield Case(norm.LayerNorm, "one channel", (normal(2, 1), positive(1), normal(1)))
    yield Case(norm.LayerNorm, "size 1", (normal(1), positive(1), normal(1)))
    yield Case(norm.LayerNorm, "no rows", (normal(0, 4), positive(4), normal(4)))
    both = positive(4)
    yield Case(norm.LayerNorm, "scale and shift are one array", (normal(3, 4), both, both))
    for what, qkv, n_heads in (
        ("two heads", normal(2, 4, 12), 2),
        ("one head", normal(1, 5, 6), 1),
        ("one token", normal(2, 1, 6), 2),
        ("size 1", normal(1, 1, 3), 1),
        ("no batch", normal(0, 3, 6), 1),
        ("strided", strided(normal, 2, 3, 6), 2),
        ("stride 0", repeated(normal, 2, 3, 6), 1),
    ):
        yield Case(attention.CausalAttention, what, (qkv,), {"n_heads": n_heads})
    dropped = {"n_heads": 2, "keep": mask(2, 2, 4, 4), "rate": 0.3}
    yield Case(attention.CausalAttention, "dropout", (normal(2, 4, 12),), dropped)
    for what, ids in {
        "each id once": np.array([[1, 0], [3, 2]]),
        "repeated ids": np.array([[2, 2, 0], [2, 4, 0]]),
        "one id": np.array(3),
        "no ids": np.zeros((2, 0), dtype=np.int64),
    }.items():
        yield Case(embedding.Embedding, what, (normal(5, 3),), {"ids": ids})
    yield from in_every_layout(embedding.Embedding, normal, ids=np.array([0, 2, 2]))
    yield Case(embedding.Embedding, "size 1", (normal(1, 1),), {"ids": np.array([0, 0])})
    yield from in_every_layout(dropout.Dropout, normal, keep=mask(3, 4), rate=0.25)
    yield Case(dropout.Dropout, "nothing dropped", (normal(3),), {"keep": np.ones(3, dtype=bool), "rate": 0.0})
    yield Case(dropout.Dropout, "size 1, dropped", (normal(1),), {"keep": np.zeros(1, dtype=bool), "rate": 0.5})
    yield Case(dropout.Dropout, "empty", (normal(0, 2),), {"keep": mask(0, 2), "rate": 0.5})
    op, params = dropout.DropoutAdd, {"keep": mask(3, 4), "rate": 0.25}
    yield from in_every_layout(op, normal, normal(3, 4), **params)
    yield Case(op, "strided residual", (normal(3, 4), strided(normal, 3, 4)), params)
    yield Case(op, "size 1, dropped", (normal(1), normal(1)), {"keep": np.zeros(1, dtype=bool), "rate": 0.5})
    yield Case(op, "empty", (normal(0, 2), normal(0, 2)), {"keep": mask(0, 2), "rate": 0.5})
    twice = normal(3, 4)
    yield Case(op, "one array twice", (twice, twice), params)


def loss_cases() -> Iterator[Case]:
    """Cases of both cross-entropies."""
    targets = np.array([2, 0, 2])
    yield from in_every_layout(loss.CrossEntropy, normal, targets=targets)
    yield Case(loss.CrossEntropy, "one row", (normal(1, 5),), {"targets": np.array([4])})
    yield Case(loss.CrossEntropy, "size 1", (normal(1, 1),), {"targets": np.array([0])})
    yield Case(loss.CrossEntropy, "a vocabulary of one", (normal(2, 1),), {"targets": np.array([0, 0])})
    yield Case(loss.CrossEntropy, "large logits", (np.array([[900.0, 899.0, -900.0]]),), {"targets": np.array([1])})
    op = loss.LinearCrossEntropy
    yield from in_every_layout(op, normal, normal(6, 4), targets=targets)
    yield Case(op, "strided weight", (normal(3, 4), strided(normal, 6, 4)), {"targets": targets})
    yield Case(op, "one row", (normal(1, 2), normal(3, 2)), {"targets": np.array([1])})
    yield Case(op, "size 1", (normal(1, 1), normal(1, 1)), {"targets": np.array([0])})
    long, wide = normal(300, 3), normal(2**14, 3)  # two chunks
    yield Case(op, "more logits than a chunk holds", (long, wide), {"targets": np.arange(300) % 7})
    square = normal(3, 3)
    yield Case(op, "one array twice", (square, square), {"targets": targets})


def kink_cases() -> Iterator[Case]:
    """Cases of operations with a kink, away from it; tests cover the kink itself."""
    methods: tuple[Method, ...] = "complex step", "central"
    for method in methods:
        yield from larger_or_smaller_cases(elementwise.Maximum, method)
        yield from larger_or_smaller_cases(elementwise.Minimum, method)
        yield from max_cases(method)


def larger_or_smaller_cases(op: type[Function], method: Method) -> Iterator[Case]:
    """Cases of Maximum or Minimum."""
    for what, x, y in (
        ("plain", normal(3, 4), normal(3, 4)),
        ("broadcast", normal(3, 1), normal(4)),
        ("strided", strided(normal, 3, 4), repeated(normal, 3, 4)),
        ("size 1", normal(1), normal(1)),
        ("empty", normal(0, 2), normal(2)),
    ):
        yield Case(op, f"{what}, {method}", (x, y), {}, method)
    both = normal(3, 2)
    yield Case(op, f"one array twice, {method}", (both, both), {}, method)


def max_cases(method: Method) -> Iterator[Case]:
    """Cases of Max."""
    for axis in (0, -1, (0, 1), None):
        for keepdims in (False, True):
            params = {"axis": axis, "keepdims": keepdims}
            yield Case(reduce.Max, f"axis {axis}, keepdims {keepdims}, {method}", (normal(2, 3, 4),), params, method)
    along = {"axis": 1, "keepdims": False}
    yield Case(reduce.Max, f"strided, {method}", (strided(normal, 3, 4),), along, method)
    yield Case(reduce.Max, f"stride 0, {method}", (repeated(normal, 3, 4),), along, method)
    yield Case(reduce.Max, f"size 1, {method}", (normal(1),), {"axis": None, "keepdims": True}, method)
    yield Case(reduce.Max, f"empty, {method}", (normal(0, 4),), along, method)
    if method == "complex step":  # the forward of complex ties is their mean
        tie = np.array([[2.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
        yield Case(reduce.Max, "a tie", (tie,), along)
