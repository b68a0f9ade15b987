"""A stand-in module for cupy on machines without a GPU: NumPy with CuPy's names and restrictions.

    with installed() as standin:
        train_one_step("cuda")
        assert standin.syncs == []

It refuses what CuPy refuses, wraps indices and poisons empty arrays as a GPU would, and records where the host waited
(`syncs`), what was copied to the device (`uploads`) and what ran there: kernels of the package's own, those of
cupy.RawModule, by the simulator in tests/cusim (`launches`), and CuPy's own operations (`operations`).  What it cannot
show: speed, the bits of a GPU's sums.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
from cublaslt_twin import Twin

from . import device, functions
from .api import api
from .device_array import DeviceArray
from .memory import owners
from .nccl import NCCL_NAMES
from .raw_module import RawModule
from .record import Record, record
from .ufuncs import DeviceUfunc, named

CUDA_BACKEND = "nanograd_gpt.backend.cuda"
SELECT = "nanograd_gpt.backend.select"


class Module(ModuleType):
    """A module that has the names that CuPy's has, each made when it is first asked for."""

    def __init__(self, name: str, own: dict[str, Any], numpys: object = None) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self._own, self._numpys = own, numpys

    def __getattr__(self, name: str) -> Any:
        entry = api().names[self.__name__].get(name)
        if entry is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        host: Any = getattr(self._numpys, name, None)
        if name in self._own:
            value = self._own[name]
        elif host is None and name != "newaxis":
            raise AttributeError(f"the stand-in does not emulate {entry.name}, which CuPy has")
        elif entry.numpys_own or (entry.kind == "constant" and isinstance(host, (float, type(None)))):
            value = host
        elif entry.kind == "ufunc" or name == "matmul":
            value = named(name)
        elif entry.kind == "function":
            value = functions.of_numpys(entry, host)
        else:
            raise AttributeError(f"the stand-in does not emulate {entry.name}, which CuPy has")
        setattr(self, name, value)
        return value


class Nccl(Module):
    """cupy.cuda.nccl, which has nothing else where the library is missing."""

    def __getattr__(self, name: str) -> Any:
        if name == "available":
            return record.has_nccl
        if not record.has_nccl:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return super().__getattr__(name)


def scatter_add(a: DeviceArray, slices: Any, value: Any) -> None:
    named("add").at(a, slices, value)


def scatter_max(a: DeviceArray, slices: Any, value: Any) -> None:
    named("maximum").at(a, slices, value)


def scatter_min(a: DeviceArray, slices: Any, value: Any) -> None:
    named("minimum").at(a, slices, value)


runtime = Module("cupy.cuda.runtime", device.RUNTIME_NAMES)
memory = Module("cupy.cuda.memory", device.MEMORY_NAMES)
nvrtc = Module("cupy.cuda.nvrtc", device.NVRTC_NAMES)
SUBMODULES = {
    "cuda": Module("cupy.cuda", {**device.CUDA_NAMES, "memory": memory, "nvrtc": nvrtc, "runtime": runtime}),
    "exceptions": Module("cupy.exceptions", {}, np.exceptions),
    "lib": Module("cupy.lib", {}),
    "linalg": Module("cupy.linalg", {}, np.linalg),
    "random": Module("cupy.random", {}),
}
OWN = {**functions.OWN, **SUBMODULES, "RawModule": RawModule, "ndarray": DeviceArray, "ufunc": DeviceUfunc}
cupy = Module("cupy", OWN, np)
cupy.__version__ = api().cupy_version  # type: ignore[attr-defined]  # a module made here has no declared names
cupyx = Module("cupyx", {f.__name__: f for f in (scatter_add, scatter_max, scatter_min)})
nccl = Nccl("cupy.cuda.nccl", NCCL_NAMES)  # no attribute of cupy.cuda, but a module to import
MODULES = {module.__name__: module for module in (cupy, cupyx, memory, nccl, nvrtc, runtime, *SUBMODULES.values())}


@contextmanager
def installed(available: bool = True, on_exit: Iterable[Callable[[], None]] = ()) -> Iterator[Record]:
    """Let `import cupy` find the stand-in; available=False plays a machine that has CuPy and no GPU.

    On the way out, a CuPy that was there before comes back, the package forgets its CUDA backend, and each of on_exit
    is called.  The record stays, to be read after the block.
    """
    before = {name: module for name, module in sys.modules.items() if is_cupys(name)}
    replace_cupy(MODULES)
    record.reset(available)
    device.forget_choice()
    owners.clear()  # arrays that tests before this one left alive are not on the new machine's GPU
    use_twin()
    try:
        yield record
    finally:
        replace_cupy(before)
        record.status = 0
        for call in on_exit:
            call()


def replace_cupy(modules: dict[str, Any]) -> None:
    for name in [name for name in sys.modules if is_cupys(name)]:
        del sys.modules[name]
    sys.modules.update(modules)
    forget_cuda_backend()


def use_twin() -> None:
    """Let the package's binding load the twin in place of cuBLASLt; it is kept in the record."""
    record.cublaslt = Twin()
    importlib.import_module(f"{CUDA_BACKEND}.cublaslt").load = lambda: record.cublaslt


def is_cupys(name: str) -> bool:
    return name.partition(".")[0] in ("cupy", "cupyx")


def forget_cuda_backend() -> None:
    """Drop the modules that hold on to one `cupy`, and what the package keeps about the stand-in's arrays."""
    for name in [name for name in sys.modules if name == CUDA_BACKEND or name.startswith(f"{CUDA_BACKEND}.")]:
        del sys.modules[name]
    package, _, attribute = CUDA_BACKEND.rpartition(".")
    vars(sys.modules.get(package, ModuleType("none"))).pop(attribute, None)
    kernels = getattr(sys.modules.get(SELECT), "_KERNELS", {})
    kernels.pop(DeviceArray, None)
