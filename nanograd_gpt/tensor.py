"""Tensor: an array and its node in the graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from math import prod
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_index

from .autograd import Function, Leaf, Node, backward, record
from .backend.bfloat16 import is_bfloat16
from .backend.contract import Array, Axis, Bools, HostArray, Ints
from .backend.select import Device, device_of, in_float32, kernels_of, to_host
from .ops import elementwise, matmul, reduce, shape
from .ops.axes import check_not_pytorchs, takes_dim, unpacked
from .ops.operands import NUMBERS, PLAIN, as_array, as_operand, call_text, numbers_as_arrays
from .pytorch_names import BACKWARD, FIXED, TENSOR, missing_names, without_keywords

Index: TypeAlias = Any  # any index that an array takes, or an integer Tensor
Operand: TypeAlias = "Tensor | Array | complex | Sequence[Any]"


class Tensor:
    """An array that records the operations applied to it, for backward().

    data: the array itself (NumPy's or CuPy's); numbers and nested lists become NumPy arrays.
    requires_grad: True makes it a leaf, whose gradient backward() accumulates in `grad`, an array of its dtype.

    Integer and bool arrays are allowed, but have no gradient.  Mixed dtypes follow NumPy's promotion.  Comparisons,
    == included, are elementwise as in NumPy; a Tensor is hashed by identity, as in PyTorch.
    Writing to `data` in place while a graph uses it makes that graph's gradients wrong, and is not detected.
    Raises TypeError for requires_grad=True with integers, and for arrays of anything but numbers and bools.
    """

    __slots__ = ("__weakref__", "data", "node")
    __array_ufunc__ = None  # so that `array + tensor` calls Tensor.__radd__ once, not per element
    __array_priority__ = 1000
    data: Array
    node: Node | None

    def __init__(self, data: npt.ArrayLike, requires_grad: bool = False) -> None:
        if not isinstance(requires_grad, bool | np.bool_):
            raise TypeError(f"requires_grad is {requires_grad!r}, expected True or False; one array makes a Tensor")
        self.data = as_array(data)
        if requires_grad and self.data.dtype.kind not in "fc" and not is_bfloat16(self.data.dtype):
            raise TypeError(f"a gradient needs float or complex numbers, got {self.data.dtype}; write 1.0, not 1")
        self.node = Leaf(self.data.dtype) if requires_grad else None

    # Attributes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def numel(self) -> int:
        return self.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def device(self) -> Device:
        return device_of(self.data)

    @property
    def requires_grad(self) -> bool:
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value != self.requires_grad:
            raise TypeError(FIXED["requires_grad"])

    @property
    def grad(self) -> Array | None:
        """The gradient of a leaf, in this tensor's shape; None before backward, and for results of operations."""
        if not isinstance(self.node, Leaf) or self.node.grad is None:
            return None
        self.node.rows = None  # who has the array may write to any row, at any time
        return self.node.grad

    @grad.setter
    def grad(self, value: None) -> None:
        if value is not None:
            raise TypeError(FIXED["grad"])
        self.zero_grad()

    if not TYPE_CHECKING:  # a type checker would accept any attribute
        __getattr__ = missing_names(TENSOR)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d Tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Operand) -> bool:
        return bool((self == value).any())

    def __repr__(self) -> str:
        values = np.array2string(to_host(self.data), precision=4, threshold=20, separator=", ", prefix="Tensor(")
        origin = "requires_grad" if isinstance(self.node, Leaf) else type(self.node).__name__ if self.node else ""
        facts = [values, f"shape={self.shape}", str(self.dtype), self.device, *([origin] if origin else [])]
        return f"Tensor({', '.join(facts)})"

    # Leaving the graph

    def detach(self) -> Tensor:
        """A Tensor of the same array (not a copy), outside the graph."""
        return Tensor(self.data)

    def numpy(self) -> HostArray:
        """The array, or a copy on the host if it is on a GPU.  Raises RuntimeError if it requires a gradient."""
        if self.requires_grad:
            raise RuntimeError("this Tensor is part of a graph; use .detach().numpy()")
        return to_host(self.data)

    def item(self) -> Any:
        """The value of a one-element Tensor as a Python number.  Raises ValueError for any other size."""
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor of one element; this one has shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.item(), digits)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # Backward

    @without_keywords(BACKWARD)
    def backward(self, gradient: Array | None = None) -> None:
        """Add d(self)/d(leaf) to the gradient of every leaf of this graph, and free the graph.

        gradient: weights of the elements, of self.shape; optional for one element, where it is 1.
        Raises RuntimeError without a graph or if the graph was freed before, ValueError for a wrong shape, TypeError
        for an array on another device.
        """
        if self.node is None:
            raise RuntimeError("backward() needs a graph, and no input of this Tensor has requires_grad=True")
        if gradient is None:
            if self.size != 1:
                raise ValueError(f"backward() starts from a scalar, not from shape {self.shape}; use .sum() or .mean()")
            gradient = kernels_of(self.data).xp.ones_like(self.data)
        else:
            own, gradient = self.device, as_array(gradient, self.device)
            if (given := device_of(gradient)) != own:
                raise TypeError(f"backward() on {own} got a gradient on {given}; move it with to_device")
            gradient = gradient.copy()  # it may be a leaf's own gradient, which is added to in place
            if gradient.shape != self.shape:
                raise ValueError(f"backward() of shape {self.shape} got a gradient of shape {gradient.shape}")
        backward(self.node, gradient)

    def zero_grad(self) -> None:
        """Set a leaf's gradient to None."""
        if isinstance(self.node, Leaf):
            self.node.grad = None

    # Arithmetic, with NumPy's broadcasting

    def __neg__(self) -> Tensor:
        return apply(elementwise.Neg, self)

    def __add__(self, other: Operand) -> Tensor:
        return apply(elementwise.Add, self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return apply(elementwise.Add, other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return apply(elementwise.Sub, self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return apply(elementwise.Sub, other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return apply(elementwise.Mul, self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return apply(elementwise.Mul, other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return apply(elementwise.Div, self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return apply(elementwise.Div, other, self)

    def __pow__(self, other: Operand) -> Tensor:
        return apply(elementwise.Pow, self, other)

    def __rpow__(self, other: Operand) -> Tensor:
        return apply(elementwise.Pow, other, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return apply(matmul.MatMul, self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return apply(matmul.MatMul, other, self)

    # Comparisons return plain arrays of bools: there is nothing to differentiate

    def __eq__(self, other: object) -> Bools:  # type: ignore[override]  # an array, as in NumPy and PyTorch; object's gives a bool
        return _compared(operator.eq, self.data, other)

    def __ne__(self, other: object) -> Bools:  # type: ignore[override]  # an array, as for ==
        return _compared(operator.ne, self.data, other)

    __hash__ = object.__hash__

    def __lt__(self, other: Operand) -> Bools:
        return _compared(operator.lt, self.data, other)

    def __le__(self, other: Operand) -> Bools:
        return _compared(operator.le, self.data, other)

    def __gt__(self, other: Operand) -> Bools:
        return _compared(operator.gt, self.data, other)

    def __ge__(self, other: Operand) -> Bools:
        return _compared(operator.ge, self.data, other)

    # Elementwise functions

    def exp(self) -> Tensor:
        return apply(elementwise.Exp, self)

    def log(self) -> Tensor:
        return apply(elementwise.Log, self)

    def sqrt(self) -> Tensor:
        return apply(elementwise.Sqrt, self)

    def tanh(self) -> Tensor:
        return apply(elementwise.Tanh, self)

    def masked_fill(self, mask: Tensor | Bools | bool, value: Operand) -> Tensor:
        return apply(elementwise.Where, value, self, condition=_raw(mask))

    # Reductions: axis=None means all axes

    @takes_dim
    def sum(self, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return apply(reduce.Sum, self, axis=axis, keepdims=keepdims)

    @takes_dim
    def mean(self, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return apply(reduce.Mean, self, axis=axis, keepdims=keepdims)

    @takes_dim
    def max(self, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return apply(reduce.Max, self, axis=axis, keepdims=keepdims)

    @takes_dim
    def logsumexp(
        self, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False
    ) -> Tensor:
        return apply(reduce.LogSumExp, self, axis=axis, keepdims=keepdims)

    @takes_dim
    def var(
        self,
        axis: Axis = None,
        *,
        keepdims: bool = False,
        unbiased: bool = True,
        dim: Axis = None,
        keepdim: bool = False,
    ) -> Tensor:
        """The variance over n elements: the sum of squared deviations over n - 1, or over n with unbiased=False."""
        centred = self - self.mean(axis, keepdims=True)
        total = (centred * centred).sum(axis, keepdims)
        return total / (self.size // max(1, total.size) - int(unbiased))

    @takes_dim
    def argmax(
        self, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False
    ) -> Ints:
        """The index of the largest element, the first of equal ones, as an array; without an axis, in x.flatten()."""
        index = in_float32(self.data).argmax(axis=axis, keepdims=keepdims)
        return np.asarray(index) if isinstance(index, np.generic) else index

    # Shape and indexing

    def reshape(self, *shape_: int | tuple[int, ...]) -> Tensor:
        return apply(shape.Reshape, self, shape=unpacked(shape_))

    view = reshape  # PyTorch's name

    def squeeze(self, axis: int | None = None) -> Tensor:
        """Remove an axis of length 1, or all of them; an axis of another length stays, as in PyTorch."""
        axes = range(self.ndim) if axis is None else (normalize_axis_index(axis, self.ndim),)
        return self.reshape(*(n for i, n in enumerate(self.shape) if n != 1 or i not in axes))

    def unsqueeze(self, axis: int) -> Tensor:
        axis = normalize_axis_index(axis, self.ndim + 1)
        return self.reshape(*self.shape[:axis], 1, *self.shape[axis:])

    def flatten(self, first: int = 0, last: int = -1) -> Tensor:
        """Flatten the axes first .. last into one."""
        if not self.ndim:
            return self.reshape(1)
        first, last = range(self.ndim)[first], range(self.ndim)[last]
        return self.reshape(*self.shape[:first], prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def transpose(self, *axes: int | tuple[int, ...]) -> Tensor:
        """Permute the axes as NumPy does, or reverse them; PyTorch's transpose(a, b), swapaxes here, is an error."""
        check_not_pytorchs(axes, self.ndim)
        return apply(shape.Transpose, self, axes=unpacked(axes) or tuple(reversed(range(self.ndim))))

    def swapaxes(self, a: int, b: int) -> Tensor:
        a, b = normalize_axis_index(a, self.ndim), normalize_axis_index(b, self.ndim)
        axes = list(range(self.ndim))
        axes[a], axes[b] = axes[b], axes[a]
        return apply(shape.Transpose, self, axes=tuple(axes))

    @property
    def T(self) -> Tensor:  # noqa: N802  # NumPy's and PyTorch's name
        return self.transpose()

    def broadcast_to(self, *shape_: int | tuple[int, ...]) -> Tensor:
        return apply(shape.BroadcastTo, self, shape=unpacked(shape_))

    def __getitem__(self, index: Index) -> Tensor:
        return apply(shape.GetItem, self, index=_raw_index(index))


def apply(op: type[Function], *inputs: Operand, **params: Any) -> Tensor:
    """Run an operation on Tensors, arrays, numbers or lists; recorded in the graph if an input requires a gradient.

    op: a subclass of Function.  params: keyword arguments of its forward.
    Errors get a note with the operation's name, its inputs' dtypes and shapes, and its parameters.
    """
    arrays = [t.data if isinstance(t, Tensor) else t if type(t) in PLAIN else as_operand(op, inputs, t) for t in inputs]
    parents = [t.node if isinstance(t, Tensor) else None for t in inputs]
    if not (op.takes_numbers and any(parents)) and not NUMBERS.isdisjoint(map(type, arrays)):
        arrays = numbers_as_arrays(op, arrays, params)
    try:
        out, node = record(op, arrays, parents, params)
    except Exception as error:  # whatever an operation raises gets a note with its name, and is raised again
        error.add_note(f"in {call_text(getattr(op, '__name__', repr(op)), arrays, params)}")
        raise
    result = Tensor.__new__(Tensor)
    result.data = np.asarray(out) if isinstance(out, np.generic) else out
    result.node = node
    return result


def _compared(relation: Callable[[Any, Any], Any], x: Array, y: object) -> Bools:
    result = relation(in_float32(x), in_float32(_raw(y)))
    return np.asarray(result) if isinstance(result, np.generic) else result


def _raw(operand: object) -> Any:
    return operand.data if isinstance(operand, Tensor) else operand


def _raw_index(index: Index) -> Index:
    if isinstance(index, tuple):
        return tuple(_raw_index(i) for i in index)
    if index is None or isinstance(index, int | slice | EllipsisType):
        return index
    return _raw(index)


def as_tensor(x: Operand, function: str) -> Tensor:
    """A Tensor unchanged; an array, a number or a list as a Tensor.  Raises TypeError for others."""
    return x if isinstance(x, Tensor) else Tensor(as_operand(function, (x,), x))
