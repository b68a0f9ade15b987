"""All parameters in one flat array and their gradients in another, so that an optimizer updates long runs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..autograd import Leaf, accumulate_grad
from ..backend.contract import Array
from ..backend.cpu.allocator import give_freed_memory_back, in_small_pages
from ..backend.select import kernels_of
from ..errors import InputError, a_or_an
from ..nonzero_rows import NonzeroRows
from ..tensor import Tensor
from .module import Parameter


def pack_contiguous(parameters: Sequence[Parameter]) -> None:
    """Move parameters into one contiguous array in this order, so that a kernel can use them as one matrix.

    Does nothing if they share one array already, such as an optimizer's flat array.
    """
    base = parameters[0].data.base
    if base is not None and all(p.data.base is base for p in parameters):
        return
    flat = kernels_of(parameters[0].data).xp.concatenate([p.data.reshape(-1) for p in parameters])
    for p, end in zip(parameters, accumulate(p.size for p in parameters), strict=True):
        p.data = flat[end - p.size : end].reshape(p.shape)


class FlatParameters:
    """Parameters moved into one flat array `data` (size,), with `grad` (size,) for their gradients.

    Each parameter's `data` and gradient become views, which begin at multiples of the backend's PARAMETER_ALIGNMENT;
    `grad` is undefined where a parameter has no gradient.  `shards` (default 1): the arrays can be cut into so many
    equal parts, for which they may end in a few zeros.  In memory of the host and without shards, the rows of an
    embedding's gradient that are not zero are known, until somebody takes the array from `grad`.
    Raises InputError without parameters, for a duplicate, for a Tensor that cannot be trained, and if dtypes or devices
    differ.
    """

    def __init__(self, parameters: Sequence[Parameter], shards: int = 1) -> None:
        if not parameters:
            raise InputError("optimizer: there are no parameters to train")
        for i, p in enumerate(parameters):
            _check_trainable(i, p)
        if len({id(p) for p in parameters}) < len(parameters):
            raise InputError("optimizer: a parameter was given twice; Module.parameters() lists each once")
        kinds = {(type(p.data), p.dtype) for p in parameters}
        if len(kinds) > 1:
            raise InputError(f"optimizer: parameters must share one dtype and device, got {sorted(map(str, kinds))}")
        self.parameters = list(parameters)
        self.kernels = kernels_of(parameters[0].data)
        xp, dtype, multiple = self.kernels.xp, parameters[0].dtype, self.kernels.PARAMETER_ALIGNMENT
        self.ends = list(accumulate((p.size for p in parameters), lambda end, n: -(-end // multiple) * multiple + n))
        unit = multiple * shards if shards > 1 else 1
        size = -(-self.ends[-1] // unit) * unit
        self.data: Array = xp.zeros(size, dtype=dtype)  # zeros in the gaps between aligned parameters
        by_rows = (i for i, p in enumerate(parameters) if isinstance(p, Parameter) and p.by_rows)
        self.by_rows = list(by_rows) if xp is np and shards == 1 else []
        self._grad = self.zeros(slice(0, size))
        self.leaves = [self._move_in(i) for i in range(len(parameters))]
        self.views = [p.data for p in parameters]
        give_freed_memory_back()  # the parameters' previous arrays

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild the flat arrays on unpickling, since copies of views would not share memory."""
        self.check_in_place()
        return FlatParameters, (self.parameters,)

    def zeros(self, part: slice) -> Array:
        """Zeros for a part of `data`; the rows of an embedding take memory only when they are written to."""
        zeros: Array = self.kernels.xp.zeros(part.stop - part.start, dtype=self.data.dtype)
        for i in self.by_rows:
            in_small_pages(self.view_of(zeros, i))
        return zeros

    def _move_in(self, i: int) -> Leaf:
        p, view = self.parameters[i], self.view_of(self.data, i)
        view[...] = p.data
        p.data, leaf = view, p.node
        assert isinstance(leaf, Leaf)  # checked by _check_trainable
        leaf.buffer, gradient = self.view_of(self._grad, i), leaf.grad
        leaf.rows, leaf.grad = NonzeroRows(len(view)) if i in self.by_rows else None, None
        if gradient is not None and leaf.rows is not None:
            leaf.rows.copy_into(leaf.buffer, gradient)
            leaf.grad = leaf.buffer
        elif gradient is not None:
            accumulate_grad(leaf, gradient, fresh=False)
        return leaf

    @property
    def grad(self) -> Array:
        """The gradients (size,), as an array to keep and to write to."""
        for leaf in self.leaves:
            leaf.rows = None
        return self._grad

    def peek_grad(self) -> Array:
        """The gradients (size,), to be read at once."""
        return self._grad

    def slice_of(self, i: int) -> slice:
        """Return where parameter i is in the flat arrays."""
        return slice(self.ends[i] - self.parameters[i].size, self.ends[i])

    def view_of(self, flat: Array, i: int) -> Array:
        """Return the view of parameter i, in its shape, into a flat array like `data`."""
        return flat[self.slice_of(i)].reshape(self.parameters[i].shape)

    def zero_missing(self) -> None:
        """Zero `grad` where a parameter has no gradient."""
        for i, leaf in enumerate(self.leaves):
            if leaf.grad is None:
                self.view_of(self._grad, i)[...] = 0

    def check_in_place(self) -> None:
        """Raise InputError if a parameter's array was replaced after the optimizer was made."""
        if any(p.data is not view for p, view in zip(self.parameters, self.views, strict=True)):
            raise InputError(
                "optimizer: its parameters' arrays were replaced (by .to, .data = or another optimizer); "
                "make a new optimizer"
            )

    def contiguous_groups(self, steps: Sequence[int], members: range | None = None) -> Iterator[tuple[slice, slice]]:
        """Yield runs of adjacent parameters with a gradient and equal step counts: slices of parameters and of `data`.

        Considers only the range `members` if it is given.
        """
        members, start = range(len(self.parameters)) if members is None else members, None
        for i in members:
            has_gradient = self.leaves[i].grad is not None
            if start is not None and (not has_gradient or steps[i] != steps[start]):
                yield self._as_slices(start, i)
                start = None
            if start is None and has_gradient:
                start = i
        if start is not None:
            yield self._as_slices(start, members.stop)

    def _as_slices(self, first: int, stop: int) -> tuple[slice, slice]:
        return slice(first, stop), slice(self.slice_of(first).start, self.ends[stop - 1])


def _check_trainable(i: int, p: Parameter) -> None:
    if not isinstance(p, Tensor):
        raise InputError(
            f"optimizer: parameter {i} is {a_or_an(type(p).__name__)}, not a Tensor; give model.parameters()"
        )
    if isinstance(p.node, Leaf):
        return
    if p.requires_grad:
        why = "is the result of an operation, so it is not a leaf; give the Tensors it was computed from"
    else:
        why = "does not require a gradient; make it with requires_grad=True, or leave it out"
    raise InputError(f"optimizer: parameter {i}, a Tensor of shape {p.shape}, {why}")
