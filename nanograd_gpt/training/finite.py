"""Checks that no nan or infinity gets into a checkpoint, with the name of the first array that has one."""

from __future__ import annotations

from collections.abc import Iterator

from ..backend.contract import Array
from ..backend.select import kernels_of
from ..gpt.model import GPTModel
from ..optim import AdamW


def first_not_finite(model: GPTModel, optimizer: AdamW | None = None) -> str | None:
    """Describe the first weight, gradient or running mean with nan or infinity, and how many more have; None if none.

    Waits for the GPU.
    """
    found = [what for what, array in _arrays(model, optimizer) if not _is_finite(array)]
    if not found:
        return None
    return found[0] + (f", and {len(found) - 1:,} more arrays" if len(found) > 1 else "")


def _arrays(model: GPTModel, optimizer: AdamW | None) -> Iterator[tuple[str, Array]]:
    named = list(model.named_parameters())
    for name, p in named:
        if (gradient := p.peek_grad()) is not None:
            yield f"the gradient of {name}", gradient
    for name, p in named:
        yield f"the weight {name}", p.data
    if optimizer is not None:
        yield "AdamW's exp_avg", optimizer.exp_avg
        yield "AdamW's exp_avg_sq", optimizer.exp_avg_sq


def _is_finite(array: Array) -> bool:
    # a sum has nan or infinity wherever a number has, or where it overflows, which is looked at again
    total = float(array.sum())
    return total - total == 0 or bool(kernels_of(array).xp.isfinite(array).all())
