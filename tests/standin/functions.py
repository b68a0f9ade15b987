"""CuPy's functions: NumPy's on the arrays' host data, with CuPy's arguments; implemented here where the two differ."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from . import device, indexing
from .api import Entry
from .capture import queued
from .device_array import DeviceArray, is_view, on_device, unwrap, wrap
from .memory import DTYPES, poisoned
from .record import record
from .refusals import TAKES_HOST_ARRAYS, check_arguments, refuse_unsupported

Function = Callable[..., Any]

ON_DEVICE = {"allclose", "array_equal", "array_equiv", "count_nonzero", "imag", "real"}  # NumPy gives Python's numbers
WAITING = {"argwhere", "intersect1d", "setdiff1d", "setxor1d", "union1d", "unique_all", "unique_counts"}
WAITING |= {"median", "percentile", "quantile", "unique_inverse", "unique_values"}  # CuPy's documentation is silent


def of_numpys(entry: Entry, host: Function) -> Function:
    """CuPy's function that works as NumPy's of the same name does."""
    name = entry.name.rpartition(".")[2]

    @queued
    def function(*args: Any, **kwargs: Any) -> Any:
        bound = entry.check_call(args, kwargs)
        check_arguments(name, entry, bound)
        if entry.synchronises or name in WAITING:
            record.sync(name)
        open_up = host_side if name in TAKES_HOST_ARRAYS else unwrap
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            result = host(*(open_up(arg) for arg in args), **{key: open_up(value) for key, value in kwargs.items()})
        if name in ON_DEVICE:
            result = np.asarray(result)
        wrapped = wrap(result, *args, *kwargs.values())
        if not is_view(wrapped) and not any(wrapped is arg for arg in args) and holds_arrays(wrapped):
            record.operations.append(name)
        return wrapped

    function.__name__ = function.__qualname__ = name
    return function


def holds_arrays(result: Any) -> bool:
    return any(isinstance(item, DeviceArray) for item in (result if isinstance(result, (tuple, list)) else [result]))


def host_side(value: Any) -> Any:
    return value._host if isinstance(value, DeviceArray) else value


def of_numpy(function: Function, types: Any, args: Any, kwargs: Any) -> Any:
    """Run CuPy's function of the same module and name, if there is one, where a NumPy function meets a device array."""
    from .cupy_standin import cupy  # made of this module's functions

    owner: Any = cupy
    for part in [*function.__module__.split(".")[1:], function.__name__]:
        owner = getattr(owner, part, None)
    if owner is None or not all(issubclass(t, (DeviceArray, np.ndarray)) for t in types):
        return NotImplemented
    return owner(*args, **kwargs)


# Making arrays.


@queued
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
        copied = on_device(np.array(obj._host, dtype, copy=copy, order=order or "K", ndmin=ndmin), obj)
        if copied is not obj and copied.base is None:
            record.operations.append("array")
        return copied
    if all_on_device(obj):
        record.operations.append("array")
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
    prototype: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None
) -> DeviceArray:
    """An array like one of CuPy's or NumPy's, whose attributes are asked for: a number or a list has none.

    An empty `shape` counts as none, in CuPy's empty_like, zeros_like, ones_like and full_like.
    """
    if subok is not None:
        raise TypeError("subok is not supported yet")
    if not hasattr(prototype, "dtype"):
        raise AttributeError(f"{type(prototype).__name__!r} object has no attribute 'dtype'")
    return on_device(poisoned(np.empty_like(host_side(prototype), dtype, order, shape=shape or None)))


def zeros_like(a: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None) -> DeviceArray:
    return filled(empty_like(a, dtype, order, subok, shape), 0)


def ones_like(a: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None) -> DeviceArray:
    return filled(empty_like(a, dtype, order, subok, shape), 1)


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: Any = None, shape: Any = None
) -> DeviceArray:
    return filled(empty_like(a, dtype, order, subok, shape), fill_value)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> DeviceArray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, DeviceArray) else np.array(fill_value).dtype
    return filled(empty(shape, dtype, order), fill_value)


@queued
def filled(array: DeviceArray, value: Any) -> DeviceArray:
    """CuPy's copyto(): device arrays that broadcast, numbers, and of NumPy's arrays those of one element."""
    if isinstance(value, (list, tuple)):
        raise AttributeError(f"{type(value).__name__!r} object has no attribute 'dtype'")
    if isinstance(value, np.ndarray) and value.size != 1:
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    host = value.item() if isinstance(value, np.ndarray) else host_side(value)
    record.operations.append("copyto")
    with np.errstate(all="ignore"):
        np.copyto(array._host, host, casting="unsafe")
    return array


@queued
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> DeviceArray:
    start, stop, step = (value.item() if isinstance(value, DeviceArray) else value for value in (start, stop, step))
    record.operations.append("arange")
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


@queued
def take_along_axis(a: DeviceArray, indices: Any, axis: int | None) -> DeviceArray:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    record.operations.append("take_along_axis")
    along, host = (0, a._host.ravel()) if axis is None else (axis, a._host)
    return on_device(np.take_along_axis(host, indexing.host_index(indices) % host.shape[along], along))


def repeat(a: Any, repeats: Any, axis: int | None = None) -> DeviceArray:
    if not isinstance(a, DeviceArray):
        raise AttributeError(f"cupy.repeat: {type(a).__name__!r} object has not the attributes of a cupy.ndarray")
    return a.repeat(repeats, axis)


def squeeze(a: Any, axis: Any = None) -> DeviceArray:
    if not isinstance(a, DeviceArray):
        raise AttributeError(f"cupy.squeeze: {type(a).__name__!r} object has not the attributes of a cupy.ndarray")
    return a.squeeze(axis)


@queued
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """CuPy's where(): a ufunc of condition.astype(bool), which Python's bools, numbers and lists do not have."""
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        if not isinstance(condition, DeviceArray):
            raise TypeError(f"'a' must be a cupy.ndarray object, not {type(condition)}.")
        record.sync("where")
        return wrap(np.nonzero(condition._host))
    if not hasattr(condition, "astype"):
        raise AttributeError(f"{type(condition).__name__!r} object has no attribute 'astype'")
    for value in (condition, x, y):
        refuse_unsupported(value)
    record.operations.append("where")
    return on_device(np.asarray(np.where(unwrap(condition), unwrap(x), unwrap(y)), order="C"))


def clip(a: Any, a_min: Any, a_max: Any, out: DeviceArray | None = None) -> DeviceArray:
    if not isinstance(a, DeviceArray):
        raise AttributeError(f"cupy.clip: {type(a).__name__!r} object has not the attributes of a cupy.ndarray")
    return a.clip(a_min, a_max, out)


OWN: dict[str, Function] = {
    function.__name__: function
    for function in (
        arange,
        array,
        asarray,
        asnumpy,
        clip,
        empty,
        empty_like,
        full,
        full_like,
        get_array_module,
        get_default_memory_pool,
        ones_like,
        repeat,
        squeeze,
        take,
        take_along_axis,
        where,
        zeros_like,
    )
} | {"asanyarray": asarray, "is_available": device.is_available}
