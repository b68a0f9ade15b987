"""cupy.cuda.nccl between stand-ins: collectives of several processes' arrays, whose values `record.peers` carries.

It refuses what NCCL refuses: one GPU for two ranks, memory outside the arrays of its GPU, unknown types, roots and
sums.  And it refuses what NCCL cannot see, so that it hangs or computes wrongly: a type that is not the array's, sizes
or operations that differ between ranks, places that overlap, an array that changes while it is sent (by an operation
before it on the same stream too, which NCCL would allow).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .device import get_device
from .memory import owners
from .record import record
from .streams import queue

HostArray = npt.NDArray[Any]

NCCL_SUM, NCCL_PROD, NCCL_MAX, NCCL_MIN, NCCL_AVG = range(5)
NCCL_FLOAT32, NCCL_FLOAT64 = 7, 8
TYPES = {NCCL_FLOAT32: np.dtype(np.float32), NCCL_FLOAT64: np.dtype(np.float64)}
ID_BYTES = 128
INVALID_ARGUMENT, INVALID_USAGE, REMOTE_ERROR = 4, 5, 6
NAMES = {
    INVALID_ARGUMENT: "NCCL_ERROR_INVALID_ARGUMENT: invalid argument",
    INVALID_USAGE: "NCCL_ERROR_INVALID_USAGE: invalid usage",
    REMOTE_ERROR: "NCCL_ERROR_REMOTE_ERROR: remote process exited or there was a network error",
}


class NcclError(RuntimeError):
    """NCCL's own refusal; it tells no more than its status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"{NAMES[status]} (run with NCCL_DEBUG=INFO for details)")


class MisuseError(RuntimeError):
    """A mistake that the real NCCL does not notice: it hangs, or computes wrongly."""


class Place(NamedTuple):
    """The elements from an address on, as a view of the array that owns them."""

    address: int
    host: HostArray


def get_unique_id() -> bytes:
    record.need_device()
    return np.random.default_rng().bytes(ID_BYTES)


class NcclCommunicator:
    """One rank of `ndev`, on the GPU that is in use now."""

    def __init__(self, ndev: int, commId: bytes, rank: int, config: Any = None) -> None:
        record.need_device()
        record.use("nccl")
        if not isinstance(commId, bytes):
            raise TypeError(f"Argument 'commId' has incorrect type (expected bytes, got {type(commId).__name__})")
        if len(commId) != ID_BYTES or not 0 <= rank < ndev:
            raise NcclError(INVALID_ARGUMENT)
        self._rank, self._size, self._device = rank, ndev, get_device()
        self._exchange: Callable[[Any], list[Any]] | None = record.peers
        found = record.peers((commId, ndev, rank, self._device))
        if {i for i, *_ in found} != {commId} or [r for _, _, r, _ in found] != [*range(ndev)]:
            raise MisuseError("NCCL would wait for ever: the ranks have not the same id and size, or not each its rank")
        if len({device for *_, device in found}) < ndev:
            raise NcclError(INVALID_USAGE)

    def device_id(self) -> int:
        return self._device

    def rank_id(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size

    def destroy(self) -> None:
        self._exchange = None

    def abort(self) -> None:
        self._exchange = None

    def check_async_error(self) -> None:
        self._needed()
        record.use("NCCL's network")

    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:  # noqa: N802  # CuPy's name
        sent, received = self._places((sendbuf, count), (recvbuf, count), datatype)
        if sendbuf != recvbuf:
            refuse_overlap(sent, received)
        self._check_sum(op)
        self._queue(stream, ("allReduce", count, datatype), sent, received, total)

    def reduceScatter(self, sendbuf: int, recvbuf: int, recvcount: int, datatype: int, op: int, stream: int) -> None:  # noqa: N802  # CuPy's name
        sent, received = self._places((sendbuf, recvcount * self._size), (recvbuf, recvcount), datatype)
        own = slice(self._rank * recvcount, (self._rank + 1) * recvcount)
        if recvbuf != sendbuf + own.start * received.host.itemsize:
            refuse_overlap(sent, received)
        self._check_sum(op)
        key = "reduceScatter", recvcount, datatype
        self._queue(stream, key, sent, received, lambda values: total(values)[own])

    def allGather(self, sendbuf: int, recvbuf: int, count: int, datatype: int, stream: int) -> None:  # noqa: N802  # CuPy's name
        sent, received = self._places((sendbuf, count), (recvbuf, count * self._size), datatype)
        if sendbuf != recvbuf + self._rank * count * sent.host.itemsize:
            refuse_overlap(sent, received)
        self._queue(stream, ("allGather", count, datatype), sent, received, np.concatenate)

    def broadcast(self, sendbuff: int, recvbuff: int, count: int, datatype: int, root: int, stream: int) -> None:
        if not 0 <= root < self._size:
            raise NcclError(INVALID_ARGUMENT)
        sent, received = self._places((sendbuff, count), (recvbuff, count), datatype)
        if sendbuff != recvbuff:
            refuse_overlap(sent, received)
        key = "broadcast", count, datatype, root
        self._queue(stream, key, sent, received, lambda values: values[root])

    # Checks, and the work itself

    def _needed(self) -> Callable[[Any], list[Any]]:
        if self._exchange is None:
            raise NcclError(INVALID_ARGUMENT)
        return self._exchange

    def _check_sum(self, op: int) -> None:
        if op != NCCL_SUM:
            raise NcclError(INVALID_ARGUMENT)

    def _places(self, sent: tuple[int, int], received: tuple[int, int], datatype: int) -> tuple[Place, Place]:
        if datatype not in TYPES:
            raise NcclError(INVALID_ARGUMENT)
        return self._place(*sent, TYPES[datatype]), self._place(*received, TYPES[datatype])

    def _place(self, address: int, count: int, dtype: np.dtype[Any]) -> Place:
        """Raises NcclError for memory that is not this GPU's, MisuseError for elements that are not one array's."""
        for owner in list(owners.values()):
            low, high = np.lib.array_utils.byte_bounds(owner._host)
            if not low <= address < high:
                continue
            if owner._device != self._device:
                raise NcclError(INVALID_ARGUMENT)
            if owner._host.dtype != dtype or (address - low) % dtype.itemsize:
                raise MisuseError(f"NCCL would read an array of {owner._host.dtype} as {dtype}")
            first = (address - low) // dtype.itemsize
            if first + count > owner._host.size:
                raise MisuseError(f"NCCL would go {first + count - owner._host.size} elements beyond the array's end")
            return Place(address, owner._host.reshape(-1)[first : first + count])
        raise NcclError(INVALID_ARGUMENT)  # as a pointer of the host's

    def _queue(
        self, stream: int, key: tuple[Any, ...], sent: Place, received: Place, result: Callable[[Any], Any]
    ) -> None:
        exchange = self._needed()
        if get_device() != self._device:
            raise MisuseError(f"the stream is of GPU {get_device()}, the communicator of GPU {self._device}")
        record.operations.append(key[0])
        queue(stream, partial(self._work, exchange, key, sent, received, result, sent.host.copy()))

    def _work(
        self,
        exchange: Callable[[Any], list[Any]],
        key: tuple[Any, ...],
        sent: Place,
        received: Place,
        result: Callable[[Any], Any],
        before: HostArray,
    ) -> None:
        if sent.host.tobytes() != before.tobytes():
            raise MisuseError(f"the array of {key[0]} changed while it was sent")
        of_all = exchange((key, before))
        if any(other != key for other, _ in of_all):
            raise MisuseError(f"NCCL would hang: the ranks call {', '.join(str(other) for other, _ in of_all)}")
        received.host[...] = result([values for _, values in of_all])


def total(values: list[HostArray]) -> HostArray:
    return reduce(np.add, values)


def refuse_overlap(sent: Place, received: Place) -> None:
    if np.shares_memory(sent.host, received.host):
        raise MisuseError("NCCL would overwrite what it still has to send: the places overlap, but not in place")


NCCL_NAMES = {
    name: globals()[name]
    for name in ("NcclCommunicator", "NcclError", "get_unique_id", "NCCL_SUM", "NCCL_PROD", "NCCL_MAX", "NCCL_MIN")
} | {"NCCL_AVG": NCCL_AVG, "NCCL_FLOAT32": NCCL_FLOAT32, "NCCL_FLOAT64": NCCL_FLOAT64}
