"""Work beside the training, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Self


class Background:
    """Runs one function at a time beside the block; on leaving it, waits for the last.

    with Background() as beside:
        beside.start(function)  # returns at once; waits for an earlier function first
        beside.wait()           # raises the error of the function, if it had one
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, function: Callable[[], object]) -> None:
        """Run a function in a thread, or here where no thread can be had.  Raises the error of an earlier one."""
        self.wait()
        thread = Thread(target=self._run, args=(function,), name="nanograd-background")
        try:
            thread.start()
        except RuntimeError:  # the system's limit of threads is reached
            function()
        else:
            self._thread = thread

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # raised where the training waits
            self._error = error

    def wait(self) -> None:
        """Wait until nothing runs.  Raises the error of the function that ran."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if (error := self._error) is not None:
            self._error = None
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        with suppress(*() if kind is None else (Exception,)):  # the block's error is the first, and the one to show
            self.wait()
