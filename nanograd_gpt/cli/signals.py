"""Signals during a training, and a closed output: the current update is finished first."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL
from threading import Thread
from time import monotonic
from types import FrameType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last, Windows sends in place of SIGHUP
ALWAYS = (signal.SIGINT, signal.SIGTERM)  # also in a shell's background job, which is started with SIGINT ignored
ONCE_IN = 1.0  # seconds: of several processes, the terminal signals each, and mpiexec does again
CLOSED_PIPE = 13  # the number of SIGPIPE, which Python turns into an exception


def is_closed_pipe(error: OSError) -> bool:
    """Tell whether an output's error is that its reader has closed it."""
    windows = sys.platform == "win32" and error.errno == EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or windows


class Signals:
    """Record SIGINT, SIGTERM, SIGHUP in this block instead of stopping, so that an update is never interrupted.

    The first signal calls `tell` with a line that says what happens now; a second one raises KeyboardInterrupt.
    once_in: seconds in which a signal counts once [0].  A SIGHUP that is ignored, as under nohup, stays so.
    """

    def __init__(self, tell: Callable[[str], object], once_in: float = 0.0) -> None:
        self.tell, self.once_in = tell, once_in
        self.at = 0.0  # when the last one came
        self.received: int | None = None  # the number of the signal
        self.handlers: dict[signal.Signals, Any] = {}
        self.telling: Thread | None = None

    def __enter__(self) -> Self:
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if number in ALWAYS or signal.getsignal(number) != signal.SIG_IGN:
                self.handlers[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        before, self.at = self.at, monotonic()
        if self.received is not None and self.at - before > self.once_in:
            raise KeyboardInterrupt
        if self.received is not None:
            return
        self.received = number
        again = f"{'press' if number == signal.SIGINT else 'send'} {name_of(number)} again"
        line = f"stopping after this update; {again} to stop at once, without a checkpoint"
        # in a thread, since the signal may have interrupted a write to the same stream
        telling = Thread(target=self._tell, args=(line,))
        with suppress(RuntimeError):  # no thread can be had; the end is told by another line anyway
            telling.start()
            self.telling = telling

    def _tell(self, line: str) -> None:
        try:
            self.tell(line)
        except OSError:  # the terminal is gone, as after SIGHUP; the checkpoint is still written
            return

    @contextmanager
    def closed_pipe(self) -> Iterator[None]:
        """Take an output that its reader has closed, found in this block, for a signal; write nothing more to it."""
        try:
            yield
        except OSError as error:
            if not is_closed_pipe(error):
                raise
            self.received = CLOSED_PIPE
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def __exit__(self, *_: object) -> None:
        if self.telling is not None:
            self.telling.join()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def name_of(number: int) -> str:
    """The name of a signal for people: Ctrl-C, SIGTERM, SIGHUP."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
