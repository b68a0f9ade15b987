"""Many parameters in one flat array, and their gradients in another: what an optimizer walks over in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..autograd import Leaf
from ..backend.contract import Array
from ..backend.cpu.allocator import give_freed_memory_back
from ..backend.select import kernels_of
from ..errors import InputError
from ..tensor import Tensor
from .module import Parameter


def pack_contiguous(parameters: Sequence[Parameter]) -> None:
    """Move parameters one behind the other in memory, so that a kernel can take them for one matrix.

    Where they are in one array already, be it an optimizer's, they stay.
    """
    whole = parameters[0].data.base
    if whole is not None and all(p.data.base is whole for p in parameters):
        return
    flat = kernels_of(parameters[0].data).xp.concatenate([p.data.reshape(-1) for p in parameters])
    for p, end in zip(parameters, _running_sum([p.size for p in parameters]), strict=True):
        p.data = flat[end - p.size : end].reshape(p.shape)


class FlatParameters:
    """Moves parameters side by side into `data` (size,), where they stay, and makes `grad` (size,) for gradients.

    A parameter's `data` and gradient become views; `grad` is meaningless where a parameter has no gradient.
    Raises InputError without parameters, for one given twice, for what has no gradient to collect, or if they differ
    in dtype or device.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        if not parameters:
            raise InputError("optimizer: there are no parameters to train")
        for i, p in enumerate(parameters):
            _check_trainable(i, p)
        if len({id(p) for p in parameters}) < len(parameters):
            raise InputError("optimizer: a parameter was given twice; Module.parameters() names each once")
        kinds = {(type(p.data), p.dtype) for p in parameters}
        if len(kinds) > 1:
            raise InputError(f"optimizer: parameters must share one dtype and device, got {sorted(map(str, kinds))}")
        self.parameters = list(parameters)
        self.ends = _running_sum([p.size for p in parameters])
        self.kernels = kernels_of(parameters[0].data)
        xp, dtype = self.kernels.xp, parameters[0].dtype
        self.data: Array = xp.empty(self.ends[-1], dtype=dtype)
        self.grad: Array = xp.empty(self.ends[-1], dtype=dtype)
        self.views = [self._adopted(p, end) for p, end in zip(self.parameters, self.ends, strict=True)]
        give_freed_memory_back()  # which held the parameters until now

    def __reduce__(self) -> tuple[Any, ...]:
        """Lay the copied parameters side by side anew: copies of views would be arrays of their own."""
        self.check_in_place()
        return FlatParameters, (self.parameters,)

    def _adopted(self, p: Parameter, end: int) -> Array:
        part = slice(end - p.size, end)
        view: Array = self.data[part].reshape(p.shape)
        view[...] = p.data
        p.data = view
        assert isinstance(p.node, Leaf)  # as _check_trainable has seen
        p.node.buffer = self.grad[part].reshape(p.shape)
        if p.node.grad is not None:
            p.node.buffer[...] = p.node.grad
            p.node.grad = p.node.buffer
        return view

    def view_of(self, flat: Array, i: int) -> Array:
        """The part of a flat array like `data` that belongs to parameter i, in its shape."""
        p, end = self.parameters[i], self.ends[i]
        return flat[end - p.size : end].reshape(p.shape)

    def check_in_place(self) -> None:
        """Raise InputError if a parameter has been moved away (by Module.to, after the optimizer was made)."""
        if any(p.data is not view for p, view in zip(self.parameters, self.views, strict=True)):
            raise InputError("optimizer: the model was moved after its optimizer was made; make the optimizer anew")

    def contiguous_groups(self, steps: Sequence[int], members: range | None = None) -> Iterator[tuple[slice, slice]]:
        """Neighbours that have a gradient and the same number of steps: as slices of parameters and of `data`.

        Of `members` alone, where they are given.
        """
        members, start = range(len(self.parameters)) if members is None else members, None
        for i in members:
            p = self.parameters[i]
            if start is not None and (p.grad is None or steps[i] != steps[start]):
                yield self._run(start, i)
                start = None
            if start is None and p.grad is not None:
                start = i
        if start is not None:
            yield self._run(start, members.stop)

    def _run(self, first: int, behind: int) -> tuple[slice, slice]:
        begin = self.ends[first] - self.parameters[first].size
        return slice(first, behind), slice(begin, self.ends[behind - 1])


def _check_trainable(i: int, p: Parameter) -> None:
    if not isinstance(p, Tensor):
        raise InputError(f"optimizer: parameter {i} is a {type(p).__name__}, not a Tensor; give model.parameters()")
    if isinstance(p.node, Leaf):
        return
    if p.requires_grad:
        why = "was made by an operation, so it has no gradient of its own; give what it was made from"
    else:
        why = "wants no gradient; make it with requires_grad=True, or leave it out"
    raise InputError(f"optimizer: parameter {i}, a Tensor of shape {p.shape}, {why}")


def _running_sum(sizes: Sequence[int]) -> list[int]:
    ends, total = [], 0
    for size in sizes:
        total += size
        ends.append(total)
    return ends
