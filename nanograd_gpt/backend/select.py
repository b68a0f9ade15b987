"""An array's own type picks its kernels; a name ("auto", "cpu", "cuda") picks where new arrays go."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import InputError
from . import cpu
from .contract import Array, HostArray, Kernels

Device: TypeAlias = Literal["cpu", "cuda"]

_KERNELS: dict[type, Kernels] = {np.ndarray: cpu}


def kernels_of(*arrays: Any) -> Kernels:
    """The kernels that serve these arrays, numbers among them passed over.  Raises TypeError if none is an array."""
    for array in arrays:
        kernels = _KERNELS.get(type(array))
        if kernels is not None:
            return kernels
    cupy = sys.modules.get("cupy")  # an array of CuPy's can only exist once CuPy has been imported
    for array in arrays:
        if isinstance(array, np.ndarray):  # a subclass, such as np.memmap
            return cpu
        if cupy is not None and isinstance(array, cupy.ndarray):
            from . import cuda

            return _KERNELS.setdefault(type(array), cuda)
    raise TypeError(f"expected a NumPy or CuPy array, got {', '.join(type(a).__name__ for a in arrays)}")


def resolve_device(name: str) -> Device:
    """Settle "auto", and see that a device asked for by name is there.  Raises InputError that says what is missing."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: {name!r} is unknown; choose auto, cpu or cuda")
    if name == "cpu":
        return "cpu"
    missing = _cuda_problem()
    if missing is None:
        return "cuda"
    if name == "cuda":
        raise InputError(f"device: 'cuda' cannot be used: {missing}; or choose --device cpu")
    return "cpu"


def _cuda_problem() -> str | None:
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (pip install 'nanograd-gpt[cuda12]' or '[cuda13]', to match the driver)"
    if not cupy.is_available():
        return "CuPy is installed but finds no GPU (see nvidia-smi for the driver)"
    return None


def to_device(array: Array, device: Device) -> Array:
    """The same values on the device; no copy where they are there already.

    Raises InputError for a device that is unknown, or that cannot be used.
    """
    if device == "cpu":
        return to_host(array)
    if device != "cuda" or "cupy" not in sys.modules:  # as long as it is not known to be there
        resolve_device(device)
    import cupy

    return cupy.asarray(array)


def to_host(array: Array) -> HostArray:
    """The same values as a NumPy array; waits for the GPU if they are there."""
    if isinstance(array, np.ndarray):
        return array
    kernels_of(array)  # raises a clear error if it is not an array
    return array.get()


def device_of(array: Array) -> Device:
    """The device of an array."""
    return "cpu" if kernels_of(array) is cpu else "cuda"


def synchronize(device: Device) -> None:
    """Wait until the device has finished all it was given."""
    if device == "cuda":
        import cupy

        cupy.cuda.Device().synchronize()
