"""CuPy's ufuncs: device arrays and scalars only, CuPy's keywords, and the few methods that CuPy implements."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import indexing
from .api import Entry, api
from .capture import queued
from .device_array import DeviceArray, unwrap, wrap
from .record import record
from .refusals import SCALARS, refuse_overlap_of_values, refuse_unsupported

WIDTH = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}  # of the kinds of dtypes
COMPARISONS = {"equal", "greater", "greater_equal", "less", "less_equal", "not_equal"}
WORDS = ("int32", "int64", "uint32", "uint64")
ATOMIC_DTYPES = {  # of ufunc.at with integer arrays: what CUDA's atomic operations take
    "add": (*WORDS, "float16", "float32", "float64"),
    "subtract": ("int32", "uint32"),
    "maximum": (*WORDS, "float32", "float64"),
    "minimum": (*WORDS, "float32", "float64"),
}


class DeviceUfunc:
    """One of NumPy's ufuncs for device arrays."""

    def __init__(self, entry: Entry, host: np.ufunc) -> None:
        self.entry, self.host = entry, host
        self.name = f"cupy_{host.__name__}"
        self.__name__, self.__doc__ = self.name, host.__doc__
        self.nin, self.nout, self.nargs = host.nin, host.nout, host.nargs

    def __repr__(self) -> str:
        return f"<ufunc {self.name!r}>"

    @queued
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.entry.check_call(args, kwargs)
        record.use("kernel")
        record.operations.append(self.host.__name__)
        for value in args[: self.nin]:
            refuse_unsupported(value)
            if WIDTH[np.result_type(unwrap(value)).kind] > WIDTH[self.entry.widest]:
                raise TypeError(f"{self.name} does not take {np.result_type(unwrap(value))}")
        out = kwargs.get("out")
        outputs = [*args[self.nin :], *(out if isinstance(out, tuple) else [out])]
        for value in outputs:
            if value is not None and not isinstance(value, DeviceArray):
                raise TypeError(f"Unsupported type {type(value)}")
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            keywords = {key: unwrap(value) for key, value in kwargs.items()}
            result = self.host(*unwrap(args), order="C", **keywords)  # CuPy's results are all in C order
        return wrap(result, *outputs)

    # CuPy gives every ufunc these methods, and most raise when called.

    @queued
    def at(self, a: DeviceArray, indices: Any, b: Any = None) -> None:
        """a[indices] = ufunc(a[indices], b), repeated indices repeatedly; the order is the GPU's threads'."""
        self._need("at")
        if not indexing.is_advanced(indices):
            place = a[indices]
            self(place, b, place)
            return
        key = indexing.host_key(indices, a.shape)
        dtypes = ATOMIC_DTYPES.get(self.host.__name__, WORDS)
        if str(a.dtype) not in dtypes and any(isinstance(item, np.ndarray) and item.dtype != bool for item in key):
            raise TypeError(f"cupy.{self.host.__name__}.at only supports {', '.join(dtypes)} as data type")
        if isinstance(b, (np.ndarray, list)):
            record.upload("summed values")
        values = b._host if isinstance(b, DeviceArray) else np.asarray(b, dtype=a.dtype)
        refuse_overlap_of_values(a._host, values)
        self.host.at(a._host, key, values.astype(a.dtype))  # CuPy casts in silence

    def reduce(
        self, array: DeviceArray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        self._need("reduce")
        method = array.sum if self.host is np.add else array.prod
        return method(axis, dtype, out, keepdims)

    def accumulate(self, array: DeviceArray, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        self._need("accumulate")
        method = array.cumsum if self.host is np.add else array.cumprod
        return method(axis, dtype, out)

    @queued
    def reduceat(self, array: DeviceArray, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        self._need("reduceat")
        return wrap(self.host.reduceat(array._host, indexing.host_index(indices), axis, dtype, unwrap(out)), out)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        self._need("outer")
        return self(A.reshape(A.shape + (1,) * B.ndim), B, **kwargs)

    def _need(self, method: str) -> None:
        if method not in self.entry.methods:
            raise NotImplementedError(f"`{self.name}.{method}` is not supported yet")


DeviceUfunc.__module__, DeviceUfunc.__name__, DeviceUfunc.__qualname__ = "cupy", "ufunc", "ufunc"


@queued
def matmul(*args: Any, **kwargs: Any) -> Any:
    """The product of matrices: device arrays only, no scalars.  An `out` that overlaps an operand is filled at last."""
    record.use("product")
    if record.capturing:
        raise RuntimeError("calling cuBLAS API during stream capture is currently unsupported")
    record.operations.append("matmul")
    entry = named_entry("matmul")
    entry.check_call(args, kwargs)
    for value in (*args, kwargs.get("out")):
        if value is not None and not isinstance(value, DeviceArray):
            raise TypeError(f"Argument has incorrect type (expected cupy.ndarray, got {type(value).__name__})")
    out = kwargs.get("out")
    with np.errstate(all="ignore"):
        result = np.matmul(*unwrap(args), **{"order": "C", **{key: unwrap(value) for key, value in kwargs.items()}})
    return wrap(result, out)


def of_numpy(function: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run CuPy's ufunc of the same name where a NumPy ufunc meets a device array; mixing with host arrays raises."""
    name = function.__name__
    if api().missing(name):
        return NotImplemented
    chosen: Callable[..., Any] | None = named(name) if method == "__call__" else getattr(named(name), method, None)
    if chosen is None:
        return NotImplemented
    if "out" in kwargs:
        (kwargs["out"],) = kwargs["out"]
    for value in (*inputs, *([kwargs["out"]] if "out" in kwargs else [])):
        if not isinstance(value, (DeviceArray, np.ndarray)) and type(value) not in SCALARS:
            return NotImplemented
    if name in COMPARISONS:
        inputs = tuple(value.item() if isinstance(value, np.ndarray) and not value.ndim else value for value in inputs)
    return chosen(*inputs, **kwargs)


@cache
def named(name: str) -> Any:
    """The ufunc of this name."""
    return matmul if name == "matmul" else DeviceUfunc(named_entry(name), getattr(np, name))


def named_entry(name: str) -> Entry:
    return api().names["cupy"][name]
