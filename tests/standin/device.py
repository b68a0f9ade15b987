"""cupy.cuda for one simulated GPU: devices, streams, events, and the calls of CUDA's runtime that are needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from .capture import Graph, capture
from .memory import used_bytes
from .record import CAPTURE_UNSUPPORTED, CUDARuntimeError, Record, record

FULL_SIZE = Record().total_memory  # a GPU that is not made smaller has room for all that is tested
MAJOR, MINOR = 9, 0
ATTRIBUTES = {"MaxThreadsPerBlock": 1024, "MultiProcessorCount": 132, "WarpSize": 32}
ATTRIBUTES |= {"MaxSharedMemoryPerBlock": 49152, "MaxSharedMemoryPerBlockOptin": 232448}


class MemoryPointer:
    """The address of an array's first element."""

    device_id = 0

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr

    @property
    def device(self) -> Device:
        return Device(0)


class Device:
    """A GPU, and in a `with` block the one in use."""

    def __init__(self, device: int | Device | None = None) -> None:
        self.id: int = device.id if isinstance(device, Device) else device or 0
        if device is None:
            record.need_device()  # which one is current, the driver must say

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

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
        return "0000:00:00.0"


class Stream:
    """A queue of work, executed at once."""

    null: ClassVar[Stream]
    ptds: ClassVar[Stream]
    done = True
    is_non_blocking = False
    ptr = 0

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        if not (null or ptds):
            record.need_device()
        self.is_non_blocking, self.priority = non_blocking, priority or 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def use(self) -> Stream:
        return self

    def synchronize(self) -> None:
        record.need_device()
        record.sync("Stream.synchronize")

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        pass

    def begin_capture(self, mode: int | None = None) -> None:
        if self is Stream.null:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)
        capture.begin()

    def end_capture(self) -> Graph:
        return capture.end()

    def is_capturing(self) -> bool:
        return record.capturing


Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)


class Event:
    """A timestamp in a stream."""

    done = True

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        record.need_device()
        self.seconds: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        record.sync("Event.synchronize")


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


def get_current_stream(device_id: int = -1) -> Stream:
    return Stream.null


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events that were recorded."""
    if start_event.seconds is None or end_event.seconds is None:
        raise CUDARuntimeError(400)
    return 1000 * (end_event.seconds - start_event.seconds)


# cupy.cuda.runtime


def get_device_count() -> int:
    record.need_device()
    return 1


def get_device() -> int:
    record.need_device()
    return 0


def set_device(device: int) -> None:
    record.need_device()
    if device != 0:
        raise CUDARuntimeError(101)


def get_device_properties(device: int) -> dict[str, Any]:
    set_device(device)
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
