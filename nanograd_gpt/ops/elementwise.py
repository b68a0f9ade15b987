"""Elementwise operations, with NumPy's broadcasting.  Inputs may be plain numbers, which need no gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..autograd import Function, Gradient
from ..backend.contract import Array, Bools
from .broadcasting import shape_of, unbroadcast


class Add(Function):
    """x + y"""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = shape_of(x), shape_of(y)
        return x + y

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        return (
            unbroadcast(dz, x) if self.needs_input_grad(0) else None,
            unbroadcast(dz, y) if self.needs_input_grad(1) else None,
        )


class Sub(Function):
    """x - y"""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = shape_of(x), shape_of(y)
        return x - y

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        return (
            unbroadcast(dz, x) if self.needs_input_grad(0) else None,
            unbroadcast(-dz, y) if self.needs_input_grad(1) else None,
        )


class Mul(Function):
    """x * y"""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = x, y
        return x * y

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        return (
            unbroadcast(dz * y, shape_of(x)) if self.needs_input_grad(0) else None,
            unbroadcast(dz * x, shape_of(y)) if self.needs_input_grad(1) else None,
        )


class Div(Function):
    """z = x / y;  dz/dx = 1 / y,  dz/dy = -z / y"""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        z = x / y
        self.saved = shape_of(x), y, z
        return z

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y, z = self.saved
        dx = dz / y
        return (
            unbroadcast(dx, x) if self.needs_input_grad(0) else None,
            unbroadcast(-dx * z, shape_of(y)) if self.needs_input_grad(1) else None,
        )


class Neg(Function):
    """-x"""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (-dy,)


class Pow(Function):
    """z = x ** y;  dz/dx = y x ** (y - 1),  dz/dy = z log x (and 0 where x is 0 and y is not negative)"""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        z = x**y
        self.saved = x, y, z
        return z

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        xp = self.kernels.xp
        x, y, z = self.saved
        dx = dy = None
        if self.needs_input_grad(0):
            base = _where(xp, y == 0, 1, x)  # d(x ** 0)/dx is 0, even where x ** -1 is infinite
            dx = unbroadcast(dz * (y * base ** (y - 1)), shape_of(x))
        if self.needs_input_grad(1):
            is_zero = (x == 0) & (y.real >= 0)
            logarithm = xp.log(_where(xp, is_zero, 1, x), dtype=z.dtype)  # x may be a number or of lower precision
            dy = unbroadcast(dz * (z * logarithm), shape_of(y))
        return dx, dy


def _where(xp: ModuleType, condition: Any, x: Any, y: Any) -> Any:
    """xp.where that accepts a plain bool (from comparing plain numbers), which CuPy's does not."""
    if isinstance(condition, bool):
        return x if condition else y
    return xp.where(condition, x, y)


class Exp(Function):
    """y = exp(x);  dy/dx = y"""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = self.kernels.xp.exp(x)
        self.saved = y
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (dy * self.saved,)


class Log(Function):
    """y = log(x);  dy/dx = 1 / x"""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        self.saved = x
        return self.kernels.xp.log(x)

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (dy / self.saved,)


class Sqrt(Function):
    """y = sqrt(x);  dy/dx = 1 / (2 y)"""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = self.kernels.xp.sqrt(x)
        self.saved = y
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        return (0.5 * dy / self.saved,)


class Tanh(Function):
    """y = tanh(x);  dy/dx = 1 - y^2"""

    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = self.kernels.xp.tanh(x)
        self.saved = y
        return y

    def backward(self, dy: Array) -> tuple[Gradient]:
        y = self.saved
        return (dy * (1 - y * y),)


class Maximum(Function):
    """The larger of x and y.  Gradient: half to each where they are equal, all to both where one is nan."""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = x, y
        xp = self.kernels.xp
        by_real_part = xp.result_type(x, y).kind == "c"  # NumPy compares the imaginary parts of ties
        return xp.where(x.real >= y.real, x, y) if by_real_part else xp.maximum(x, y)

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        dx, dy = dz * _share(x.real < y.real, x, y, dz), dz * _share(x.real > y.real, x, y, dz)
        return (
            unbroadcast(dx, shape_of(x)) if self.needs_input_grad(0) else None,
            unbroadcast(dy, shape_of(y)) if self.needs_input_grad(1) else None,
        )


class Minimum(Function):
    """The smaller of x and y.  Gradient: half to each where they are equal, all to both where one is nan."""

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any) -> Array:
        self.saved = x, y
        xp = self.kernels.xp
        by_real_part = xp.result_type(x, y).kind == "c"
        return xp.where(x.real <= y.real, x, y) if by_real_part else xp.minimum(x, y)

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        x, y = self.saved
        dx, dy = dz * _share(x.real > y.real, x, y, dz), dz * _share(x.real < y.real, x, y, dz)
        return (
            unbroadcast(dx, shape_of(x)) if self.needs_input_grad(0) else None,
            unbroadcast(dy, shape_of(y)) if self.needs_input_grad(1) else None,
        )


def _share(loses: Bools, x: Any, y: Any, dz: Array) -> Array:
    """One operand's share of the gradient: 0 where it loses, half where they tie, else 1."""
    return (1 - (1.0 * loses + 0.5 * (x.real == y.real))).astype(dz.real.dtype)


class Where(Function):
    """x where the condition is true, else y; the condition may be a single bool or number.

    Raises TypeError for a mix of NumPy's and CuPy's arrays, naming the one to move.
    """

    __slots__ = ()
    takes_numbers = True

    def forward(self, x: Any, y: Any, *, condition: Any) -> Array:
        xp = self.kernels.xp
        if not isinstance(condition, list | tuple) and not hasattr(condition, "shape"):
            condition = np.bool_(condition)  # CuPy's where takes NumPy's bool, not Python's
        _check_one_device(xp, condition=condition, x=x, y=y)
        self.saved = shape_of(x), shape_of(y), condition
        return xp.where(condition, x, y)

    def backward(self, dz: Array) -> tuple[Gradient, Gradient]:
        xp = self.kernels.xp
        x, y, condition = self.saved
        return (
            unbroadcast(xp.where(condition, dz, 0), x) if self.needs_input_grad(0) else None,
            unbroadcast(xp.where(condition, 0, dz), y) if self.needs_input_grad(1) else None,
        )


def _check_one_device(xp: ModuleType, **operands: Any) -> None:
    """Raise TypeError naming an operand of where() that is an array of another library, or a list beside CuPy's."""
    for name, operand in operands.items():
        is_list = isinstance(operand, list | tuple) and xp is not np  # NumPy's where takes lists
        is_array = hasattr(operand, "shape") and not isinstance(operand, xp.ndarray | np.generic)
        if is_list or is_array:
            kind, others = type(operand), "the CPU" if xp is np else "the GPU"
            raise TypeError(
                f"where: {name} is a {kind.__module__}.{kind.__name__}, the arrays beside it are on {others}; "
                "all must be on one device: move it with to_device of backend.select"
            )
