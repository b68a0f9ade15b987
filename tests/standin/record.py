"""The stand-in's record of host waits, and whether it simulates a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CUDA = 12090
HERE = str(Path(__file__).parent)
NO_DEVICE, CAPTURE_UNSUPPORTED = 100, 900
MESSAGES = {
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    101: "cudaErrorInvalidDevice: invalid device ordinal",
    900: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    803: "cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver combination",
    400: "cudaErrorInvalidResourceHandle: invalid resource handle",
}


class CUDARuntimeError(RuntimeError):
    """The error that CuPy raises when a call of CUDA's fails."""

    def __init__(self, status: int = 100) -> None:
        self.status = status
        super().__init__(MESSAGES[status])


def alone(value: Any) -> list[Any]:
    return [value]


@dataclass
class Record:
    """Lists of entries such as 'float at nanograd_gpt/optim.py:42', the call and the caller's line; and the machine."""

    syncs: list[str] = field(default_factory=list)  # the host waited for the device
    uploads: list[str] = field(default_factory=list)  # arrays went from the host to the device
    launches: list[str] = field(default_factory=list)  # kernels of RawModules, by their names alone, in order
    operations: list[str] = field(default_factory=list)  # CuPy's own that run kernels or copy on the device, by name
    status: int = 0  # the error of every call that needs a GPU; 0: there is one
    driver: int = CUDA  # version; 0: no driver
    runtime: int = CUDA  # version that CuPy is built for
    total_memory: int = 80 << 30  # bytes of the GPU
    failing: dict[str, Exception] = field(default_factory=dict)  # at the first "product", "kernel" or "compiler"
    capturing: bool = False  # whether a stream is, so that the host may neither wait nor send arrays
    works: int = 0  # queued on the default stream, by their number
    gpus: int = 1
    has_nccl: bool = True
    peers: Callable[[Any], list[Any]] = alone  # what NCCL's communicators exchange: each rank's value, on all ranks
    cublaslt: Any = None  # the Twin of this installation, with the products that it was asked for

    def reset(self, available: bool) -> None:
        """An installation that works, if available; if not, one without a GPU."""
        fresh = Record(status=0 if available else NO_DEVICE)
        for name in vars(fresh):
            setattr(self, name, getattr(fresh, name))

    def sync(self, what: str) -> None:
        self.refuse_while_capturing()
        self.syncs.append(f"{what} at {caller()}")

    def upload(self, what: str) -> None:
        self.refuse_while_capturing()
        self.uploads.append(f"{what} at {caller()}")

    def refuse_while_capturing(self) -> None:
        if self.capturing:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)

    def need_device(self) -> None:
        if self.status:
            raise CUDARuntimeError(self.status)

    def use(self, what: str) -> None:
        """Raise the error of a part of the installation that is broken."""
        if what in self.failing:
            raise self.failing[what]


def deeds(events: list[str]) -> list[str]:
    """The entries without their places: ['float']."""
    return [event.rpartition(" at ")[0] for event in events]


def caller() -> str:
    """'file.py:line' of the nearest frame that is neither the stand-in nor NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"


def is_machinery(path: str) -> bool:
    inside = path.startswith(HERE) and not Path(path).name.startswith("test_")
    return inside or "/numpy/" in path or path.startswith("<")


record = Record()
