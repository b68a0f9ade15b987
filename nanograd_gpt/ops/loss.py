"""Cross-entropy: minus the mean log probability of the targets."""

from __future__ import annotations

from ..autograd import Function, Gradient
from ..backend.contract import Array, Ints
from .operands import check_floating, check_shape, in_one_dtype
from .token_ids import check_ids


class CrossEntropy(Function):
    """Cross-entropy from logits.

    logits (N, V), targets (N,)  ->  loss ()
    """

    __slots__ = ()

    def forward(self, logits: Array, *, targets: Ints) -> Array:
        if logits.ndim != 2:
            raise ValueError(f"logits have shape {logits.shape}, expected (N, V)")
        check_shape("targets", targets, len(logits))
        loss, largest, total = self.kernels.cross_entropy(check_floating(logits), check_ids(targets, logits.shape[-1]))
        self.saved = logits, targets, largest, total
        return loss

    def backward(self, dloss: Array) -> tuple[Gradient]:
        logits, targets, largest, total = self.saved
        return (self.kernels.cross_entropy_backward(dloss, logits, targets, largest, total),)


class LinearCrossEntropy(Function):
    """Cross-entropy from the output head's input, in chunks, so that not all logits are in memory at once.

    x (N, C), weight (V, C), targets (N,)  ->  loss ()

    checked=True skips the check of targets that were checked before.
    """

    __slots__ = ()
    takes_bfloat16 = True

    def forward(self, x: Array, weight: Array, *, targets: Ints, checked: bool = False) -> Array:
        if x.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
            raise ValueError(f"x has shape {x.shape} and weight {weight.shape}, expected (N, C) and (V, C)")
        check_shape("targets", targets, len(x))
        x, weight = in_one_dtype(x, weight)
        targets = targets if checked else check_ids(targets, len(weight))
        want_gradient = bool(self.parents)
        loss, log_sum_exp, kept = self.kernels.linear_cross_entropy(x, weight, targets, want_gradient)
        self.saved = x, weight, targets, log_sum_exp, kept
        return loss

    def backward(self, dloss: Array) -> tuple[Gradient, Gradient]:
        x, weight, targets, log_sum_exp, kept = self.saved
        dweight = self.grad_out(1, weight)
        dx = self.kernels.linear_cross_entropy_backward(
            dloss, x, weight, targets, log_sum_exp, kept, dweight, self.needs_input_grad(0)
        )
        return dx, dweight
