"""cupy.ndarray on NumPy: its names and errors, and a record of each time that the host would wait."""

from __future__ import annotations

import functools
import operator as python_operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import indexing
from .api import api
from .capture import capture, queued
from .device import Device, MemoryPointer, allocate, get_device
from .memory import DTYPES, memory_of, owners, poisoned
from .operators import comparison, conversion, operator, ufunc
from .record import record
from .refusals import (
    refuse_axis_of_a_scalar,
    refuse_device_parameters,
    refuse_host_array,
    refuse_overlap,
    refuse_unsupported,
)

HostArray = npt.NDArray[Any]

TO_HOST = {"dump", "dumps", "item", "tobytes", "tofile", "tolist"}
WAITING = {"compress", "nonzero"}
SORTS_IN_PLACE = {"partition", "sort"}


class DeviceArray:
    """A NumPy array that can only be used as CuPy allows."""

    __slots__ = ("__weakref__", "_device", "_host", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]  # unhashable, as CuPy's arrays
    _host: HostArray
    _device: int
    base: DeviceArray | None

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: Any = "C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in makes no arrays over given memory")
        adopt(poisoned(np.empty(shape, dtype, order)), None, self)

    # Attributes and methods that differ from NumPy's; __getattr__ has all others.

    def __getattr__(self, name: str) -> Any:
        entry = api().names["cupy.ndarray"].get(name)
        if entry is None or entry.kind == "special":
            raise AttributeError(f"'ndarray' object has no attribute {name!r}")
        if name in ("cstruct", "flat") or not hasattr(np.ndarray, name):
            raise AttributeError(f"the stand-in does not emulate cupy.ndarray.{name}, which CuPy has")
        if entry.kind == "attribute":
            return wrap(getattr(self._host, name), self)
        return functools.partial(call_method, self, entry)

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._host.ctypes.data, self._device)

    @property
    def device(self) -> Device:
        return Device(self._device)

    @property
    def flags(self) -> Flags:
        return Flags(self._host.flags, owns=self.base is None)

    @property
    def real(self) -> DeviceArray:
        return on_device(self._host.real, self)

    @real.setter
    @queued
    def real(self, value: Any) -> None:
        self._host.real = unwrap(value)

    @property
    def imag(self) -> DeviceArray:
        complex_valued = self._host.dtype.kind == "c"
        return on_device(self._host.imag if complex_valued else np.zeros_like(self._host), self)

    @imag.setter
    @queued
    def imag(self, value: Any) -> None:
        self._host.imag = unwrap(value)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = self._host.__array_interface__
        return {**{key: interface[key] for key in ("shape", "typestr", "strides")}, "data": (self.data.ptr, False)}

    def get(self, stream: Any = None, order: str = "C", out: HostArray | None = None, blocking: bool = True) -> Any:
        if blocking:
            record.sync("get")
        if out is None:
            return self._host.copy(order=order)  # type: ignore[arg-type]  # any order: NumPy refuses a wrong one
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        self._check_transfer(out, "obtained from")
        out[...] = self._host
        return out

    def set(self, arr: HostArray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        self._check_transfer(arr, "set to")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        record.upload(f"set {arr.dtype}{list(arr.shape)}")
        self._host[...] = arr

    def _check_transfer(self, host: HostArray, verb: str) -> None:
        if host.dtype != self._host.dtype:
            raise TypeError(f"{host.dtype} array cannot be {verb} {self._host.dtype} array")
        if host.shape != self._host.shape:
            raise ValueError(f"Shape mismatch: {host.shape} cannot be {verb} {self._host.shape}")

    @queued
    def fill(self, value: Any) -> None:
        refuse_host_array(value, "fill")
        if isinstance(value, DeviceArray):
            record.sync("fill")  # CuPy looks whether it is 0
        record.operations.append("fill")
        self._host.fill(unwrap(value) if isinstance(value, DeviceArray) else value)

    @queued
    def take(self, indices: Any, axis: int | None = None, out: DeviceArray | None = None) -> DeviceArray:
        if out is not None and out.dtype != self.dtype:
            raise TypeError("Output dtype mismatch")
        refuse_overlap("take", out, [self])
        at: Any = indices
        if not np.isscalar(indices):
            at = indexing.host_index(indices if isinstance(indices, DeviceArray) else np.asarray(indices, int))
        record.operations.append("take")
        return on_device(np.asarray(np.take(self._host, at, axis, unwrap(out), "wrap")), out)

    def squeeze(self, axis: Any = None) -> DeviceArray:
        host = self._host.squeeze(axis)
        return self if host.ndim == self._host.ndim else on_device(host, self)  # not even a view

    @queued
    def repeat(self, repeats: Any, axis: int | None = None) -> DeviceArray:
        """CuPy's _repeat(): reads counts that are not a plain int, for the result's length depends on them."""
        if isinstance(repeats, np.ndarray):
            raise TypeError("'repeats' does not accept numpy.ndarray; convert with cupy.array() first")
        if not isinstance(repeats, (DeviceArray, list, tuple)):
            try:
                python_operator.index(repeats)
            except TypeError:
                raise ValueError(f"'repeats' should be int or sequence: {repeats}") from None
        else:
            if not isinstance(repeats, DeviceArray):
                record.upload(f"repeats[{len(repeats)}]")
            record.sync("repeat")
        record.operations.append("repeat")
        return on_device(np.repeat(self._host, unwrap(repeats), axis))

    @queued
    def clip(self, min: Any = None, max: Any = None, out: DeviceArray | None = None) -> DeviceArray:
        """A ufunc in CuPy: of device arrays and scalars."""
        for bound in (min, max):
            if bound is not None:
                refuse_unsupported(bound)
        record.operations.append("clip")
        result = np.clip(self._host, unwrap(min), unwrap(max), out=unwrap(out))
        return on_device(np.asarray(result, order="C")) if out is None else out

    # Indexing.

    @queued
    def __getitem__(self, key: Any) -> DeviceArray:
        if indexing.is_advanced(key):
            record.operations.append("getitem")
        return on_device(indexing.get(self._host, key), self)

    @queued
    def __setitem__(self, key: Any, value: Any) -> None:
        if not indexing.is_advanced(key):
            refuse_host_array(value, "fill")
        elif isinstance(value, (np.ndarray, list)):
            record.upload("assigned values")
        record.operations.append("setitem")
        indexing.put(self._host, key, value._host if isinstance(value, DeviceArray) else value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[DeviceArray]:
        if not self._host.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # What the host may not do, or may do only by waiting.

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    __bool__ = conversion("bool", bool)
    __bytes__ = conversion("bytes", bytes)
    __complex__ = conversion("complex", complex)
    __float__ = conversion("float", float)
    __format__ = conversion("format", format)
    __int__ = conversion("int", int)
    __repr__ = conversion("repr", repr)
    __str__ = conversion("str", str)

    @queued
    def __copy__(self) -> DeviceArray:
        return on_device(self._host.copy())

    @queued
    def __deepcopy__(self, memo: Any) -> DeviceArray:
        return on_device(self._host.copy())

    def __reduce__(self) -> tuple[Any, tuple[HostArray]]:
        from .functions import array

        return array, (self.get(),)

    # Operators.

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .ufuncs import of_numpy

        return of_numpy(function, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from .functions import of_numpy

        return of_numpy(function, types, args, kwargs)

    __add__, __radd__, __iadd__ = operator("add")
    __sub__, __rsub__, __isub__ = operator("subtract")
    __mul__, __rmul__, __imul__ = operator("multiply")
    __truediv__, __rtruediv__, __itruediv__ = operator("true_divide")
    __floordiv__, __rfloordiv__, __ifloordiv__ = operator("floor_divide")
    __mod__, __rmod__, __imod__ = operator("remainder")
    __pow__, __rpow__, __ipow__ = operator("power")
    __lshift__, __rlshift__, __ilshift__ = operator("left_shift")
    __rshift__, __rrshift__, __irshift__ = operator("right_shift")
    __and__, __rand__, __iand__ = operator("bitwise_and")
    __or__, __ror__, __ior__ = operator("bitwise_or")
    __xor__, __rxor__, __ixor__ = operator("bitwise_xor")
    __matmul__, __rmatmul__, _ = operator("matmul")  # CuPy has no in-place one
    __divmod__, __rdivmod__, _ = operator("divmod")
    del _

    __lt__ = comparison("less")
    __le__ = comparison("less_equal")
    __gt__ = comparison("greater")
    __ge__ = comparison("greater_equal")
    __eq__ = comparison("equal")
    __ne__ = comparison("not_equal")

    def __neg__(self) -> Any:
        return ufunc("negative")(self)

    def __pos__(self) -> Any:
        return ufunc("positive")(self)

    def __abs__(self) -> Any:
        return ufunc("absolute")(self)

    def __invert__(self) -> Any:
        return ufunc("invert")(self)


DeviceArray.__module__, DeviceArray.__name__, DeviceArray.__qualname__ = "cupy", "ndarray", "ndarray"


class Flags(SimpleNamespace):
    """CuPy's flags, without `writeable` for example."""

    def __init__(self, flags: Any, owns: bool) -> None:
        super().__init__(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=owns)
        self.fnc, self.forc = flags.fnc, flags.forc

    def __getitem__(self, name: str) -> bool:
        return bool(vars(self)[name.lower()])


def wrap(value: Any, *sources: Any) -> Any:
    """A host result on the device: NumPy's scalars become 0-d arrays, Python's stay as they are."""
    if isinstance(value, np.generic):
        return adopt(np.asarray(value), None)
    if isinstance(value, (tuple, list)):
        items = [wrap(item, *sources) for item in value]
        return type(value)._make(items) if hasattr(value, "_make") else type(value)(items)
    return on_device(value, *sources) if isinstance(value, np.ndarray) else value


def on_device(value: HostArray, *sources: Any) -> DeviceArray:
    """A host array as a device array: a source itself if it is that, a view if it lies in a source's memory."""
    arrays = [source for source in sources if isinstance(source, DeviceArray)]
    for source in arrays:
        if value is source._host:
            return source
    for source in arrays:
        if memory_of(value) is memory_of(source._host):
            return adopt(value, source if source.base is None else source.base)
    return adopt(value, None)


def unwrap(value: Any) -> Any:
    """The host arrays inside device arrays, in tuples and lists too.  NumPy's arrays are refused, as CuPy does."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (tuple, list):
        return type(value)(unwrap(item) for item in value)
    return value


def adopt(host: HostArray, base: DeviceArray | None, into: DeviceArray | None = None) -> DeviceArray:
    record.need_device()
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    array = DeviceArray.__new__(DeviceArray) if into is None else into
    array._host, array.base = host, base
    array._device = get_device() if base is None else base._device
    if base is None:
        allocate(host.nbytes)
        owners[id(array)] = array
        if capture.graph is not None:
            capture.graph.created.append(array)
    return array


def is_view(result: Any) -> bool:
    """Whether an operation's result, one array or several, is made of views: it took no kernel."""
    items = result if isinstance(result, (tuple, list)) else [result]
    return bool(items) and all(isinstance(item, DeviceArray) and item.base is not None for item in items)


@queued
def call_method(self: DeviceArray, entry: Any, *args: Any, **kwargs: Any) -> Any:
    """One of NumPy's methods, with the arguments that CuPy's takes."""
    bound = entry.check_call(args, kwargs)
    name = entry.name.rpartition(".")[2]
    refuse_device_parameters(entry.name, bound)
    refuse_overlap(name, bound.get("out"), [self])
    refuse_axis_of_a_scalar(name, self, bound.get("axis"))
    if name == "dot" and not isinstance(bound["b"], (DeviceArray, np.ndarray)):
        raise TypeError(f"{entry.name}: expected a cupy.ndarray, got {type(bound['b']).__name__}")
    if name in SORTS_IN_PLACE and not self._host.flags.c_contiguous:
        raise NotImplementedError("Sorting non-contiguous array is not supported.")
    if name in TO_HOST or name in WAITING:
        record.sync(name)
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        result = getattr(self._host, name)(*unwrap(args), **{key: unwrap(value) for key, value in kwargs.items()})
    if name in TO_HOST:
        return result
    wrapped = wrap(result, self, *args, *kwargs.values())
    if wrapped is not self and not is_view(wrapped):
        record.operations.append(name)
    return wrapped
