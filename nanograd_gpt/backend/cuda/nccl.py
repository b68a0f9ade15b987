"""Sums between the GPUs of several processes by NCCL, on a stream of their own beside the kernels of the computation.

The host never waits here.  Events order the two streams: an operation begins after all that was queued before it, and
what is queued after the end of one, or after `finish`, begins after it.

The names and arguments are those of CuPy 14.2.  This has been run on a stand-in for NCCL only (tests/standin/nccl.py),
not yet on GPUs.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import cupy
import numpy as np

from ...errors import RunError
from ..contract import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # CuPy's page of advice where NCCL is missing: nccl_problem has it in one line
    from cupy.cuda import nccl

MOST_KEPT = 64  # operations under way that are remembered; in an update there are a few


def nccl_problem() -> str | None:
    """The reason why NCCL cannot be used, with what to do about it; None if it is there."""
    return None if nccl.available else f"NCCL is not installed (pip install {_package()})"


def _package() -> str:
    return f"nvidia-nccl-cu{cupy.cuda.runtime.runtimeGetVersion() // 1000}"


def unique_id() -> Any:
    """A number of NCCL's for a new Communicator, made by one process and told to the others."""
    return nccl.get_unique_id()


class Communicator:
    """The present GPUs of several processes, one each, which all call the same methods in the same order.

    size, rank          number of processes, and which of them this is
    id_of_all           unique_id() of one of them

    Arrays are contiguous, in float32 or float64, of the same size in each process; they are changed in place.
    Raises RunError where NCCL does not find the other GPUs, and TypeError or ValueError for other arrays.
    """

    def __init__(self, size: int, rank: int, id_of_all: Any) -> None:
        self.size, self.rank, self.gpu = size, rank, cupy.cuda.Device()
        self.types = {np.dtype(np.float32): nccl.NCCL_FLOAT32, np.dtype(np.float64): nccl.NCCL_FLOAT64}
        with _told("NCCL does not join the GPUs"):
            self.comm = nccl.NcclCommunicator(size, id_of_all, rank)
        self.stream = cupy.cuda.Stream(non_blocking=True)  # others wait for the default stream, and it for them
        self.computed = cupy.cuda.Event(disable_timing=True)
        self.under_way: deque[tuple[float, Any]] = deque(maxlen=MOST_KEPT)  # since when, and what records the end

    # Operations

    def begin_sum(self, array: Array) -> None:
        """Sum an array over the processes while the computation goes on, until `finish`."""
        place, count, kind = self._checked(array)
        self._begin()
        self.comm.allReduce(place, place, count, kind, nccl.NCCL_SUM, self.stream.ptr)

    def finish(self) -> None:
        """Let what is queued from now on wait for the sums that have begun."""
        end = cupy.cuda.Event(disable_timing=True)
        self.stream.record(end)
        cupy.cuda.get_current_stream().wait_event(end)
        self.under_way.append((monotonic(), end))

    def sum(self, array: Array) -> Array:
        """Replace an array by its sum over the processes."""
        self.begin_sum(array)
        self.finish()
        return array

    def sum_part(self, array: Array) -> None:
        """Sum one of `size` equal parts of an array, each process its own; the other parts are lost."""
        place, count, kind = self._checked(array)
        own = self._part(count)
        self._begin()
        at = place + self.rank * own * array.itemsize
        self.comm.reduceScatter(place, at, own, kind, nccl.NCCL_SUM, self.stream.ptr)
        self.finish()

    def gather_parts(self, array: Array) -> None:
        """Replace the other parts of an array, of `size` equal ones, by those of the processes that own them."""
        place, count, kind = self._checked(array)
        own = self._part(count)
        self._begin()
        at = place + self.rank * own * array.itemsize
        self.comm.allGather(at, place, own, kind, self.stream.ptr)
        self.finish()

    def broadcast(self, array: Array) -> Array:
        """Replace an array by the first process's."""
        place, count, kind = self._checked(array)
        self._begin()
        self.comm.broadcast(place, place, count, kind, 0, self.stream.ptr)
        self.finish()
        return array

    def _begin(self) -> None:
        """Let the operations that follow wait for what was queued before them."""
        cupy.cuda.get_current_stream().record(self.computed)
        self.stream.wait_event(self.computed)

    def _checked(self, array: Array) -> tuple[int, int, int]:
        """The address of an array, its size and NCCL's name of its type; NCCL itself would take any address."""
        if not isinstance(array, cupy.ndarray):
            raise TypeError(f"NCCL: got a {type(array).__name__}, expected a CuPy array")
        if array.dtype not in self.types:
            raise TypeError(f"NCCL: an array of {array.dtype}, expected float32 or float64")
        if not array.flags.c_contiguous:
            raise ValueError(f"NCCL: an array of shape {array.shape} is not contiguous")
        if array.device != self.gpu:
            raise ValueError(f"NCCL: an array on GPU {array.device.id}, expected one on GPU {self.gpu.id}")
        return array.data.ptr, array.size, self.types[array.dtype]

    def _part(self, count: int) -> int:
        if count % self.size:
            raise ValueError(f"NCCL: an array of {count} elements cannot be cut into {self.size} equal parts")
        return count // self.size

    # Its state

    def check(self) -> None:
        """Raise RunError for an error that NCCL has noticed meanwhile, such as a lost connection; waits for nothing."""
        with _told("NCCL lost the other GPUs"):
            self.comm.check_async_error()

    def waits_since(self) -> float | None:
        """The time, by the monotonic clock, when the oldest operation was queued that the GPU has not ended.

        None if all have ended.  Any thread may ask.
        """
        with cupy.cuda.Device(self.gpu.id):  # a thread begins with GPU 0, of which it would take memory
            while self.under_way and self.under_way[0][1].done:
                self.under_way.popleft()
            return self.under_way[0][0] if self.under_way else None

    def close(self) -> None:
        """Leave the other processes, after which nothing is summed."""
        self.comm.destroy()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise RunError in one line where NCCL fails."""
    try:
        yield
    except nccl.NcclError as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"ranks: {what}: {reason}; NCCL_DEBUG=INFO in the environment shows why, and all hosts need the same "
            f"{_package()}"
        ) from None
