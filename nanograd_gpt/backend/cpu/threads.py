"""The threads that compute: how many, a team of our own, and the matrix library kept to one while the team works.

A matrix library's own threads wait for their next product in a busy loop, and take the processors from ours: the two
kinds do not go together.  So a large model's products are cut among our threads, each of which multiplies alone; in a
small one there is little to share, and its products are left to the library, whose busy waiting is the quickest start.
So are products of a few rows, of which a token that is written needs many, one after the other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context  # numpy.errstate lives in it
from functools import cache
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, TypeAlias

from threadpoolctl import ThreadpoolController

from ...errors import InputError

Job: TypeAlias = Callable[[], object]

NAME = "nanograd_gpt"
_number: int | None = None


def n_threads() -> int:
    """How many threads a kernel may use: NANOGRAD_THREADS, or as many as the matrix library was going to use.

    Raises InputError for a NANOGRAD_THREADS that is no number of threads.
    """
    global _number
    if _number is None:
        if chosen := os.environ.get("NANOGRAD_THREADS"):
            set_threads(chosen)
        else:
            _number = max((library.get_num_threads() for library in _blas()), default=os.cpu_count() or 1)
    assert _number is not None
    return _number


def set_threads(number: int | str) -> None:
    """Choose how many threads compute, the matrix library's among them.  Raises InputError unless it is 1 or more."""
    global _number
    text = str(number)
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise InputError(f"threads: {text!r} is not allowed; choose a whole number 1 .. 1024")
    _number = int(text)
    for library in _blas():
        library.set_num_threads(_number)


@cache
def _blas() -> list[Any]:
    """Controls of the matrix libraries in this process; none for those that have no such control."""
    controllers: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return controllers


def blas_obeys() -> bool:
    """Whether the matrix library can be kept to one thread; if not, products are left to it whole."""
    return bool(_blas())


class _OneBlasThread:
    """Within, the matrix library computes with one thread; may be entered again, and from several threads."""

    def __init__(self) -> None:
        self.lock, self.depth, self.before = Lock(), 0, [0]

    def __enter__(self) -> None:
        n_threads()  # which may ask the library, and not while it is kept to one
        with self.lock:
            if self.depth == 0:
                self.before = [library.get_num_threads() for library in _blas()]
            self.depth += 1
            try:
                for library in _blas() if self.depth == 1 else ():
                    library.set_num_threads(1)
            except BaseException:  # Ctrl-C: nobody will leave what was not entered
                self._leave()
                raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self.lock:
            self._leave()

    def _leave(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            for library, number in zip(_blas(), self.before, strict=True):
                library.set_num_threads(number)


one_blas_thread = _OneBlasThread()


class Team:
    """Threads that wait for jobs; faster to hand a job to than the standard library's pools."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.jobs: SimpleQueue[tuple[Job, SimpleQueue[BaseException | None]]] = SimpleQueue()
        for _ in range(size):
            Thread(target=self._work, name=NAME, daemon=True).start()

    def _work(self) -> None:
        while True:
            job, done = self.jobs.get()
            raised = None
            try:
                job()
            except BaseException as error:  # whoever waits raises it
                raised = error
            del job  # and the arrays it holds, before another one comes
            done.put(raised)
            del done, raised

    def run(self, job: Job, times: int) -> None:
        """Run a job so many times at once, one of them here; returns when all have ended, or raises what one raised."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for _ in range(times - 1):
            self.jobs.put((_with_this_context(job), done))
        errors: list[BaseException | None] = []
        try:
            job()
        finally:
            errors += [done.get() for _ in range(times - 1)]
        for error in errors:
            if error is not None:
                raise error


def _with_this_context(job: Job) -> Job:
    context = copy_context()
    return lambda: context.run(job)


@cache
def _team(size: int) -> Team:
    return Team(size)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_team.cache_clear)  # threads do not survive a fork


def share(parts: Sequence[Any], body: Callable[[Any], object]) -> None:
    """Call body with every part, on as many threads as there are parts and we may use.

    Who gets which part depends on the moment, so a body's result must not depend on the order.
    """
    threads = min(n_threads(), len(parts))
    if threads < 2 or current_thread().name == NAME:
        for part in parts:
            body(part)
        return
    left = deque(parts)

    def work() -> None:
        while left:
            try:
                part = left.popleft()
            except IndexError:  # another thread was faster
                return
            body(part)

    with one_blas_thread:
        _team(n_threads() - 1).run(work, threads)
