"""Operations that are wrong about memory: sinks, saved arrays, inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.contract import Array, GradOut, Ints
from nanograd_gpt.ops.activation import Softmax
from nanograd_gpt.ops.elementwise import Exp
from nanograd_gpt.ops.embedding import Embedding
from nanograd_gpt.ops.loss import CrossEntropy, LinearCrossEntropy
from nanograd_gpt.ops.matmul import Linear, LinearGELU, PackedLinear
from nanograd_gpt.ops.norm import LayerNorm

from .broken_rules import Operation, RuleFailsError

SINKING = (Linear, LinearGELU, PackedLinear, LayerNorm, Embedding, LinearCrossEntropy)


def with_sink(op: Operation, change: Callable[[GradOut], GradOut]) -> Operation:
    """The operation with a kernel that takes its sinks for others, which the engine does not see."""

    class Broken(op):  # type: ignore[misc, valid-type]  # mypy accepts no variable as a base class
        def grad_out(self, i: int, like: Array, ids: Ints | None = None) -> GradOut | None:
            sink = super().grad_out(i, like, ids)
            return None if sink is None else change(sink)

        def backward(self, dy: Array) -> Sequence[Any]:
            results = zip(super().backward(dy), self.parents, strict=True)
            return [
                GradOut(g.array, accumulate=g.array is at.grad) if isinstance(g, GradOut) else g for g, at in results
            ]

    return Broken


def with_backward(op: Operation, rule: Callable[[Function, Array], Sequence[Any]]) -> Operation:
    """The operation with a rule that works on what the right forward has saved."""

    def backward(node: Function, dy: Array) -> Sequence[Any]:
        try:
            return rule(node, dy)
        except Exception as error:  # a crash would not show that the check works
            raise RuleFailsError from error

    return type("Broken", (op,), {"backward": backward})


def zeroed(sink: GradOut) -> GradOut:
    sink.array[...] = 0
    return sink


def returns_what_it_saved(op: Function, dy: Array) -> Sequence[Array]:
    op.saved *= dy
    return (op.saved,)


def softmax_in_its_output(op: Function, dy: Array) -> Sequence[Array]:
    y, axis = op.saved
    y *= dy - (dy * y).sum(axis=axis, keepdims=True)
    return (y,)


def layer_norm_in_its_input(op: Function, dy: Array) -> Sequence[Any]:
    assert isinstance(op, LayerNorm)
    gradients = LayerNorm.backward(op, dy)
    x, _, mean_of_x, rstd = op.saved
    x -= mean_of_x
    x *= rstd
    return gradients


def cross_entropy_in_its_input(op: Function, dloss: Array) -> Sequence[Array]:
    logits, targets, largest, total = op.saved
    logits -= largest
    probabilities = np.exp(logits) / total
    probabilities[np.arange(len(targets)), targets] -= 1
    return (probabilities * dloss / len(targets),)


def memory_rules() -> Iterator[tuple[Operation, str, Operation]]:
    for op in SINKING:
        yield op, "adds to what a sink held before", with_sink(op, lambda sink: sink._replace(accumulate=True))
        yield op, "overwrites an earlier gradient", with_sink(op, lambda sink: sink._replace(accumulate=False))
        yield op, "empties a sink it should add to", with_sink(op, zeroed)
        own = with_sink(
            op, lambda sink: sink if sink.accumulate else GradOut(np.empty_like(sink.array), accumulate=False)
        )
        yield op, "takes memory of its own for a gradient", own
        twice = with_backward(
            op, lambda self, dy, op=op: [g.array if isinstance(g, GradOut) else g for g in op.backward(self, dy)]
        )
        yield op, "adds to a gradient, and hands it on to be added", twice
    yield Exp, "returns its output, written over", with_backward(Exp, returns_what_it_saved)
    yield Softmax, "returns its output, written over", with_backward(Softmax, softmax_in_its_output)
    yield LayerNorm, "normalises its input in place", with_backward(LayerNorm, layer_norm_in_its_input)
    yield CrossEntropy, "subtracts from its input in place", with_backward(CrossEntropy, cross_entropy_in_its_input)
