"""cupy.cuda for simulated GPUs: devices, memory, and the calls of CUDA's runtime that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

from .capture import Graph
from .memory import used_bytes
from .record import CUDARuntimeError, Record, record
from .streams import Event, Stream, get_current_stream, get_elapsed_time, run_all

FULL_SIZE = Record().total_memory  # a GPU that is not made smaller has room for all that is tested
MAJOR, MINOR = 9, 0
ATTRIBUTES = {"MaxThreadsPerBlock": 1024, "MultiProcessorCount": 132, "WarpSize": 32}
ATTRIBUTES |= {"MaxSharedMemoryPerBlock": 49152, "MaxSharedMemoryPerBlockOptin": 232448}


_current = local()  # each thread's GPU, from 0 on


class MemoryPointer:
    """The address of an array's first element, and the GPU that it is on."""

    def __init__(self, ptr: int, device_id: int = 0) -> None:
        self.ptr, self.device_id = ptr, device_id

    @property
    def device(self) -> Device:
        return Device(self.device_id)


class Device:
    """A GPU, and in a `with` block the one in use."""

    def __init__(self, device: int | Device | None = None) -> None:
        self.id: int = get_device() if device is None else int(device)
        self._before: list[int] = []

    def __enter__(self) -> Device:
        self._before.append(get_device())
        self.use()
        return self

    def __exit__(self, *error: object) -> None:
        set_device(self._before.pop())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __int__(self) -> int:
        return self.id

    def use(self) -> None:
        set_device(self.id)

    def synchronize(self) -> None:
        record.need_device()
        record.sync("Device.synchronize")
        run_all()

    @property
    def attributes(self) -> dict[str, int]:
        record.need_device()
        return dict(ATTRIBUTES)

    @property
    def compute_capability(self) -> str:
        record.need_device()
        return f"{MAJOR}{MINOR}"

    @property
    def mem_info(self) -> tuple[int, int]:
        return memory_info()

    @property
    def pci_bus_id(self) -> str:
        record.need_device()
        return f"0000:{self.id:02x}:00.0"


class MemoryPool:
    """The memory pool: counts the live arrays, caches nothing."""

    def used_bytes(self) -> int:
        record.need_device()
        return used_bytes()

    def total_bytes(self) -> int:
        return self.used_bytes()

    def free_bytes(self) -> int:
        return 0

    def n_free_blocks(self) -> int:
        return 0

    def free_all_blocks(self, stream: Stream | None = None) -> None:
        pass

    def get_limit(self) -> int:
        return 0

    def malloc(self, size: int) -> MemoryPointer:
        raise NotImplementedError("the stand-in's arrays are NumPy's; it only takes this as an allocator")

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        pass


@contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    """Let arrays be made of the memory that this function gives; here they are NumPy's all the same."""
    yield


def is_available() -> bool:
    return not record.status


# cupy.cuda.runtime


def get_device_count() -> int:
    record.need_device()
    return record.gpus


def get_device() -> int:
    record.need_device()
    device: int = getattr(_current, "device", 0)
    return device


def set_device(device: int) -> None:
    check_device(device)
    _current.device = device


def forget_choice() -> None:
    """Let this thread begin with GPU 0, as a new one."""
    vars(_current).clear()


def check_device(device: int) -> None:
    record.need_device()
    if not 0 <= device < record.gpus:
        raise CUDARuntimeError(101)


def get_device_properties(device: int) -> dict[str, Any]:
    check_device(device)
    return {
        "name": b"stand-in",
        "totalGlobalMem": record.total_memory,
        "major": MAJOR,
        "minor": MINOR,
        "multiProcessorCount": ATTRIBUTES["MultiProcessorCount"],
        "warpSize": ATTRIBUTES["WarpSize"],
        "maxThreadsPerBlock": ATTRIBUTES["MaxThreadsPerBlock"],
        "sharedMemPerBlock": ATTRIBUTES["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": ATTRIBUTES["MaxSharedMemoryPerBlockOptin"],
    }


def device_synchronize() -> None:
    record.need_device()
    record.sync("deviceSynchronize")
    run_all()


def memory_info() -> tuple[int, int]:
    """Free and total bytes."""
    return record.total_memory - MemoryPool().used_bytes(), record.total_memory


def runtime_get_version() -> int:
    return record.runtime


def driver_get_version() -> int:
    return record.driver


class OutOfMemoryError(MemoryError):
    """The error that CuPy raises where an allocation does not fit."""

    def __init__(self, size: int, total: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


OutOfMemoryError.__module__ = "cupy.cuda.memory"


def allocate(size: int) -> None:
    """Raise OutOfMemoryError if an array of this size does not fit."""
    if record.total_memory < FULL_SIZE and used_bytes() + size > record.total_memory:
        raise OutOfMemoryError(size, used_bytes())


def nvrtc_version() -> tuple[int, int]:
    record.use("compiler")
    return 12, 9


CUDA_NAMES = {
    "Device": Device,
    "Event": Event,
    "Graph": Graph,
    "MemoryPointer": MemoryPointer,
    "MemoryPool": MemoryPool,
    "Stream": Stream,
    "get_current_stream": get_current_stream,
    "get_elapsed_time": get_elapsed_time,
    "is_available": is_available,
    "using_allocator": using_allocator,
}
RUNTIME_NAMES = {
    "CUDARuntimeError": CUDARuntimeError,
    "deviceSynchronize": device_synchronize,
    "driverGetVersion": driver_get_version,
    "getDevice": get_device,
    "getDeviceCount": get_device_count,
    "getDeviceProperties": get_device_properties,
    "memGetInfo": memory_info,
    "runtimeGetVersion": runtime_get_version,
    "setDevice": set_device,
}
MEMORY_NAMES = {"MemoryPointer": MemoryPointer, "MemoryPool": MemoryPool, "OutOfMemoryError": OutOfMemoryError}
NVRTC_NAMES = {"getVersion": nvrtc_version}
