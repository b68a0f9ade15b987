"""Backend and device selection: kernels by an array's type, devices by name ("auto", "cpu", "cuda")."""

from __future__ import annotations

import sys
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import InputError
from . import cpu
from .bfloat16 import is_bfloat16
from .contract import Array, HostArray, Kernels
from .cuda_probe import cuda_problem

Device: TypeAlias = Literal["cpu", "cuda"]

_KERNELS: dict[type, Kernels] = {np.ndarray: cpu}


def kernels_of(*arrays: Any) -> Kernels:
    """The kernels for these arrays; plain numbers are ignored.  Raises TypeError if none is an array."""
    for array in arrays:
        kernels = _KERNELS.get(type(array))
        if kernels is not None:
            return kernels
    cupy = sys.modules.get("cupy")  # a CuPy array exists only if CuPy has been imported
    for array in arrays:
        if isinstance(array, np.ndarray):  # a subclass, such as np.memmap
            return cpu
        if cupy is not None and isinstance(array, cupy.ndarray):
            from . import cuda

            return _KERNELS.setdefault(type(array), cuda)
    raise TypeError(f"expected a NumPy or CuPy array, got {', '.join(type(a).__name__ for a in arrays)}")


def resolve_device(name: str) -> Device:
    """Resolve "auto", and check that a named device is available.  Raises InputError that says what is missing."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: {name!r} is unknown; choose auto, cpu or cuda")
    if name == "cpu":
        return "cpu"
    missing = cuda_problem()
    if missing is None:
        return "cuda"
    if name == "cuda":
        raise InputError(f"device: 'cuda' cannot be used: {missing}; or choose 'cpu'")
    return "cpu"


def to_device(array: Array, device: Device) -> Array:
    """Copy an array to the device; returns the array itself if it is there already.

    Raises InputError if the device is unknown or unavailable.
    """
    if device == "cpu":
        return to_host(array)
    if device != "cuda" or "cupy" not in sys.modules:  # availability not yet known
        resolve_device(device)
    import cupy

    return cupy.asarray(array)


def to_host(array: Array) -> HostArray:
    """Copy an array to the host, waiting for the GPU; returns the array itself if it is NumPy's.

    bfloat16 becomes float32, which holds each of its values.
    """
    if isinstance(array, np.ndarray):
        return array
    kernels_of(array)  # raises TypeError if it is not an array
    host: HostArray = in_float32(array).get()
    return host


def in_float32(array: Any) -> Any:
    """An array of bfloat16 in float32; anything else as it is."""
    if not is_bfloat16(getattr(array, "dtype", np.dtype(np.float32))):
        return array
    return kernels_of(array).without_bfloat16([array])[0]


def device_of(array: Array) -> Device:
    """The device of an array."""
    return "cpu" if kernels_of(array) is cpu else "cuda"


def synchronize(device: Device) -> None:
    """Wait for all work queued on the device."""
    if device == "cuda":
        import cupy

        cupy.cuda.Device().synchronize()


def gpu_of_this_process(number: int) -> tuple[str, str | None]:
    """Choose one of this host's GPUs for this process and NCCL: the one of this number, from the first on again.

    Returns what tells it from the host's others, and why it cannot be used; None if it can.
    """
    try:
        import cupy

        gpu = cupy.cuda.Device(number % (cupy.cuda.runtime.getDeviceCount() or 1))
        gpu.use()
    except (ImportError, OSError, RuntimeError) as error:
        return "", cuda_problem() or str(error)
    if problem := cuda_problem():
        return "", problem
    from .cuda.nccl import nccl_problem

    return gpu.pci_bus_id, nccl_problem()


def gpu_memory() -> int:
    """Bytes of the GPU's memory for this process's arrays: what they take, what is kept for them, and what is free.

    The workspace of the products is not among them.
    """
    import cupy

    from .cuda.gemm import workspace_bytes

    pool = cupy.get_default_memory_pool()
    own = cupy.cuda.runtime.memGetInfo()[0] + pool.total_bytes()
    return max(0, min(own, pool.get_limit() or own) - workspace_bytes())


def gpu_memory_held() -> int:
    """Bytes of the GPU's memory that this process's arrays have taken at most, as freed ones are kept for others."""
    import cupy

    held: int = cupy.get_default_memory_pool().total_bytes()
    return held
