"""Checks that no nan or infinity gets into a checkpoint, with the name of the first array that has one."""

from __future__ import annotations

from collections.abc import Iterable

from ..backend.contract import Array
from ..backend.select import kernels_of
from ..errors import counted
from ..gpt.model import GPTModel
from ..optim import AdamW


def not_finite_in_checkpoint(model: GPTModel, optimizer: AdamW | None = None) -> str | None:
    """Name the first weight or running mean that is nan or infinite, and count the others; None if none is.

    Gradients may be: those of an update that was skipped.  Waits for the GPU.
    """
    arrays = [(f"the weight {name}", p.data) for name, p in model.named_parameters()]
    if optimizer is not None:
        arrays += [("AdamW's exp_avg", optimizer.exp_avg), ("AdamW's exp_avg_sq", optimizer.exp_avg_sq)]
    return _named(arrays)


def not_finite_after_backward(model: GPTModel) -> str | None:
    """Name the first gradient or weight that is nan or infinite, and count the others; None if none is."""
    named = list(model.named_parameters())
    gradients = [(f"the gradient of {name}", g) for name, p in named if (g := p.peek_grad()) is not None]
    return _named([*gradients, *((f"the weight {name}", p.data) for name, p in named)])


def _named(arrays: Iterable[tuple[str, Array]]) -> str | None:
    found = [what for what, array in arrays if not _is_finite(array)]
    if not found:
        return None
    more = f", and {counted(len(found) - 1, 'more array')} {'is' if len(found) == 2 else 'are'}" if found[1:] else ""
    return f"{found[0]} is nan or infinite{more}"


def _is_finite(array: Array) -> bool:
    # a sum has nan or infinity wherever a number has, or where it overflows, which is looked at again
    total = float(array.sum())
    return total - total == 0 or bool(kernels_of(array).xp.isfinite(array).all())
