"""SIGINT and SIGTERM during a training: the current update is finished first."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import Thread
from types import FrameType
from typing import Any, Self


class Signals:
    """Record SIGINT and SIGTERM in this block instead of stopping, so that an update is never interrupted.

    The first signal calls `tell` with a line that says what happens now; a second one raises KeyboardInterrupt.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.tell = tell
        self.received: str | None = None
        self.handlers: dict[signal.Signals, Any] = {}
        self.telling: Thread | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        again = f"{'press' if number == signal.SIGINT else 'send'} {self.received} again"
        line = f"stopping after this update; {again} to stop at once, without a checkpoint"
        # in a thread, since the signal may have interrupted a write to the same stream
        self.telling = Thread(target=self.tell, args=(line,))
        self.telling.start()

    def __exit__(self, *_: object) -> None:
        if self.telling is not None:
            self.telling.join()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
