"""CuPy's functions: NumPy's on the arrays' host side, called as CuPy allows; written out where the two differ."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from . import device, indexing
from .api import Entry
from .device_array import DeviceArray, on_device, unwrap, wrap
from .memory import DTYPES, poisoned
from .record import record

Function = Callable[..., Any]

TAKES_HOST_ARRAYS = {"can_cast", "iscomplexobj", "isrealobj", "isscalar", "ndim", "result_type", "shape"}
TAKES_ANYTHING = {"allclose", "array_equal", "array_equiv", "copy", "isclose"}  # for `a`: lists and scalars too
ON_DEVICE = {"allclose", "array_equal", "array_equiv", "count_nonzero"}  # where NumPy gives a Python bool or int
ELEMENTWISE = {"clip", "where"}  # ufuncs in CuPy, whose results are in C order
WAITING = {"argwhere", "intersect1d", "setdiff1d", "setxor1d", "union1d", "unique_all", "unique_counts"}
WAITING |= {"median", "percentile", "quantile", "unique_inverse", "unique_values"}  # CuPy's documentation is silent
HOST_PARAMETERS = {"axis", "axes", "indices_or_sections", "k", "newshape", "pad_width", "reps", "shape", "shift"}


def of_numpys(entry: Entry, host: Function) -> Function:
    """CuPy's function that works as NumPy's of the same name does."""
    name = entry.name.rpartition(".")[2]

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = entry.check_call(args, kwargs)
        check_arguments(name, bound)
        waits = entry.synchronises or name in WAITING
        if waits and not (name == "where" and len(bound) == 3):
            record.sync(name)
        open_up = host_side if name in TAKES_HOST_ARRAYS else unwrap
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            result = host(*(open_up(arg) for arg in args), **{key: open_up(value) for key, value in kwargs.items()})
        if name in ON_DEVICE:
            result = np.asarray(result)
        elif name in ELEMENTWISE and isinstance(result, np.ndarray) and "out" not in bound:
            result = np.asarray(result, order="C")
        return wrap(result, *args, *kwargs.values())

    function.__name__ = function.__qualname__ = name
    return function


def check_arguments(name: str, bound: dict[str, Any]) -> None:
    """CuPy calls methods of its first argument, so it must be an array; and what shapes a result must be known."""
    needs_array = name not in TAKES_ANYTHING | TAKES_HOST_ARRAYS
    if needs_array and isinstance(bound.get("a"), (int, float, list, tuple)):
        raise AttributeError(f"cupy.{name}: {type(bound['a']).__name__!r} object has no attribute {name!r}")
    for parameter in HOST_PARAMETERS & bound.keys():
        value = bound[parameter]
        if any(isinstance(item, DeviceArray) for item in (value if isinstance(value, (list, tuple)) else [value])):
            raise TypeError(f"cupy.{name}: 'ndarray' object cannot be interpreted as an integer ({parameter})")


def host_side(value: Any) -> Any:
    return value._host if isinstance(value, DeviceArray) else value


def of_numpy(function: Function, types: Any, args: Any, kwargs: Any) -> Any:
    """What a NumPy function does with a device array: CuPy's of the same module and name runs, if there is one."""
    from .cupy_standin import cupy  # made of this module's functions

    owner: Any = cupy
    for part in [*function.__module__.split(".")[1:], function.__name__]:
        owner = getattr(owner, part, None)
    if owner is None or not all(issubclass(t, (DeviceArray, np.ndarray)) for t in types):
        return NotImplemented
    return owner(*args, **kwargs)


# Making arrays.


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> DeviceArray:
    if isinstance(obj, DeviceArray):
        return on_device(np.array(obj._host, dtype, copy=copy, order=order or "K", ndmin=ndmin), obj)
    if all_on_device(obj):
        return on_device(np.array(stacked(obj), dtype, order=order or "K", ndmin=ndmin))
    host = np.array(obj, dtype, order=order or "K", ndmin=ndmin)
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    if host.ndim:  # a scalar travels with the kernel that fills the array
        record.upload(f"{host.dtype}{list(host.shape)}")
    if blocking:
        record.sync("blocking upload")
    return on_device(host)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, blocking: bool = False) -> Any:
    return array(a, dtype, copy, order, blocking=blocking)


def all_on_device(value: Any) -> bool:
    """Whether this is a sequence, nested perhaps, of device arrays alone."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(isinstance(item, DeviceArray) or all_on_device(item) for item in value)


def stacked(value: Any) -> Any:
    return value._host if isinstance(value, DeviceArray) else np.stack([stacked(item) for item in value])


def empty(shape: Any, dtype: Any = float, order: Any = "C") -> DeviceArray:
    return DeviceArray(shape, dtype, order=order)


def empty_like(
    prototype: DeviceArray, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None
) -> DeviceArray:
    if subok is not None:
        raise TypeError("subok is not supported yet")
    return on_device(poisoned(np.empty_like(unwrap(prototype), dtype, order, shape=shape)))


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> DeviceArray:
    start, stop, step = (value.item() if isinstance(value, DeviceArray) else value for value in (start, stop, step))
    numbers: Any = np.arange(start, dtype=dtype) if stop is None else np.arange(start, stop, step=step, dtype=dtype)
    return on_device(numbers)


# Between host and device.


def asnumpy(
    a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True
) -> indexing.HostArray:
    host: indexing.HostArray = a.get(stream, order, out, blocking) if isinstance(a, DeviceArray) else np.asarray(a)
    return host


def get_array_module(*args: Any) -> ModuleType:
    from .cupy_standin import cupy

    return cupy if any(isinstance(arg, DeviceArray) for arg in args) else np


def get_default_memory_pool() -> device.MemoryPool:
    return device.MemoryPool()


# Indexing.


def take(a: DeviceArray, indices: Any, axis: int | None = None, out: DeviceArray | None = None) -> DeviceArray:
    return a.take(indices, axis, out)


def take_along_axis(a: DeviceArray, indices: DeviceArray, axis: int | None) -> DeviceArray:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    along, host = (0, a._host.ravel()) if axis is None else (axis, a._host)
    return on_device(np.take_along_axis(host, unwrap(indices) % host.shape[along], along))


def repeat(a: DeviceArray, repeats: Any, axis: int | None = None) -> DeviceArray:
    if isinstance(repeats, DeviceArray):
        record.sync("repeat")  # the result's length is on the device
    return on_device(np.repeat(unwrap(a), unwrap(repeats), axis))


OWN: dict[str, Function] = {
    function.__name__: function
    for function in (
        arange,
        array,
        asarray,
        asnumpy,
        empty,
        empty_like,
        get_array_module,
        get_default_memory_pool,
        repeat,
        take,
        take_along_axis,
    )
} | {"asanyarray": asarray, "is_available": device.is_available}
