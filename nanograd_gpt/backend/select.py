"""Backend and device selection: kernels by an array's type, devices by name ("auto", "cpu", "cuda")."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ..errors import InputError
from . import cpu
from .contract import Array, HostArray, Kernels

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
        package = _pip_name()
        return f"CuPy is not installed (pip install '{package}[cuda12]' or '{package}[cuda13]', to match the driver)"
    if not cupy.is_available():
        return "CuPy is installed but finds no GPU (see nvidia-smi for the driver)"
    return None


def _pip_name() -> str:
    """The package's name for pip: the checkout that it runs in or was installed from, or else its registry name."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, as is the next
    from urllib.request import url2pathname

    checkout = Path(__file__).parents[2]
    if not (checkout / "pyproject.toml").is_file():
        try:
            origin = json.loads(distribution("nanograd-gpt").read_text("direct_url.json") or "{}")
        except PackageNotFoundError:
            return "nanograd-gpt"
        checkout = Path(url2pathname(origin.get("url", "").removeprefix("file://")))
        if "dir_info" not in origin or not checkout.is_dir():  # a wheel, a registry, or a checkout since deleted
            return "nanograd-gpt"
    return "." if checkout.resolve() == Path.cwd() else str(checkout)


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
    """Copy an array to the host, waiting for the GPU; returns the array itself if it is NumPy's."""
    if isinstance(array, np.ndarray):
        return array
    kernels_of(array)  # raises TypeError if it is not an array
    return array.get()


def device_of(array: Array) -> Device:
    """The device of an array."""
    return "cpu" if kernels_of(array) is cpu else "cuda"


def synchronize(device: Device) -> None:
    """Wait for all work queued on the device."""
    if device == "cuda":
        import cupy

        cupy.cuda.Device().synchronize()
