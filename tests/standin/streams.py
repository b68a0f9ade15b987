"""cupy.cuda's streams and events.  The default stream's work runs at once, other streams' as late as events allow.

On a GPU streams run side by side.  So what is queued on a stream of its own waits here until the default stream, or the
host, waits for an event after it: a formula that reads the result earlier reads what was there before.  And it may only
follow an event that the default stream recorded after all its work, or it could run before that work on a GPU.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import ClassVar
from weakref import WeakValueDictionary

from .capture import Graph, capture
from .record import CAPTURE_UNSUPPORTED, CUDARuntimeError, record


class Stream:
    """A queue of work."""

    null: ClassVar[Stream]
    ptds: ClassVar[Stream]

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        if not (null or ptds):
            record.need_device()
        self.is_non_blocking, self.priority = non_blocking, priority or 0
        self.ptr = 0 if null or ptds else next(_addresses)
        self._waiting: deque[Callable[[], None]] = deque()
        self._queued = self._run = 0  # works, by their number
        self._after = -1  # the default stream's works that it waits for
        _streams[self.ptr] = self

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def done(self) -> bool:
        return not self._waiting

    def use(self) -> Stream:
        return self

    def synchronize(self) -> None:
        record.need_device()
        record.sync("Stream.synchronize")
        self._run_to(self._queued)

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if event._stream is None or event._stream is self:
            return
        event._stream._run_to(event._place)
        if event._stream is Stream.null:
            self._after = event._works

    def begin_capture(self, mode: int | None = None) -> None:
        if self is Stream.null:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)
        capture.begin()

    def end_capture(self) -> Graph:
        return capture.end()

    def is_capturing(self) -> bool:
        return record.capturing

    def _queue(self, work: Callable[[], None]) -> None:
        if self.ptr == 0:
            work()
            return
        if self._after != record.works:
            raise RuntimeError("a stream's work may run before the default stream's, since it waits for no event of it")
        self._waiting.append(work)
        self._queued += 1

    def _run_to(self, place: int) -> None:
        while self._run < place:
            self._run += 1
            self._waiting.popleft()()


_addresses = count(0x1000, 0x100)
_streams: WeakValueDictionary[int, Stream] = WeakValueDictionary()
Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)
_streams[0] = Stream.null


class Event:
    """A place in a stream, and the time when it was recorded."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        record.need_device()
        self._disable_timing = disable_timing
        self._seconds: float | None = None
        self._stream: Stream | None = None
        self._place = self._works = 0

    @property
    def done(self) -> bool:
        return self._stream is None or self._stream._run >= self._place

    def record(self, stream: Stream | None = None) -> None:
        self._stream = Stream.null if stream is None else stream
        self._place, self._works = self._stream._queued, record.works
        self._seconds = None if self._disable_timing else time.perf_counter()

    def synchronize(self) -> None:
        record.sync("Event.synchronize")
        if self._stream is not None:
            self._stream._run_to(self._place)


def get_current_stream(device_id: int = -1) -> Stream:
    return Stream.null


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events that were recorded."""
    if start_event._seconds is None or end_event._seconds is None:
        raise CUDARuntimeError(400)
    return 1000 * (end_event._seconds - start_event._seconds)


def run_all() -> None:
    """Run what is queued on any stream, for a host that waits for all of it."""
    for stream in list(_streams.values()):
        stream._run_to(stream._queued)


def queue(stream: int, work: Callable[[], None]) -> None:
    """Queue work on the stream with this address."""
    if stream not in _streams:
        raise CUDARuntimeError(400)
    _streams[stream]._queue(work)
