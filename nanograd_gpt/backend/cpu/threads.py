"""The threads that compute: how many, a pool of our own, and the matrix library kept to one while the team works.

A matrix library's own threads wait for their next product in a busy loop, and take the processors from ours: the two
kinds do not go together.  So a large model's products are cut among our threads, each of which multiplies alone; in a
small one there is little to share, and its products are left to the library, whose busy waiting is the quickest start.
So are products of a few rows, of which a token that is written needs many, one after the other.

Several threads of the user's may compute at once, and each gets the bits it would get alone: where the library's
threads are concerned they take turns, a product or a shared piece of work at a time.  With one thread chosen there is
nothing to take turns at, and they compute side by side.  NumPy's own products, outside our kernels, take no turns: one
that runs meanwhile may find the library kept to one thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context  # numpy.errstate lives in it
from ctypes import CDLL
from functools import cache
from itertools import product
from queue import SimpleQueue
from threading import Lock, RLock, Thread, current_thread
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from threadpoolctl import ThreadpoolController

from ...errors import InputError

T = TypeVar("T")
Job: TypeAlias = Callable[[], object]

NAME = "nanograd_gpt"
_number: int | None = None


def n_threads() -> int:
    """The number of threads a kernel may use: NANOGRAD_THREADS, or as many as the matrix library was going to use.

    Raises InputError if NANOGRAD_THREADS is not a valid number of threads.
    """
    return _first_number() if _number is None else _number


def _first_number() -> int:
    global _number
    with _turn:
        if _number is None:
            if chosen := os.environ.get("NANOGRAD_THREADS"):
                set_threads(chosen)
            else:
                _number = max((library.get_num_threads() for library in _blas()), default=os.cpu_count() or 1)
    assert _number is not None
    return _number


def set_threads(number: int | str) -> None:
    """Choose how many threads compute, the matrix library's among them: in every thread, from its next product on.

    What other threads are computing just now ends first.  Raises InputError unless the number is 1 .. 1024.
    """
    text = str(number)
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise InputError(f"threads: {text!r} is not allowed; choose a whole number 1 .. 1024")
    _set(int(text))


def _set(number: int) -> None:
    global _number, _numbers
    with _turn:
        _numbers = [number for _ in _blas()]
        if number > 1:
            _number = number  # who begins now waits for our turn to end
            with _registry:
                locks = list(_locks)
            for lock in locks:
                with lock:  # once it is free, what its thread had begun has ended
                    pass
        _give_back()
        _number = number


class Library(Protocol):
    """Control of a matrix library in this process."""

    def get_num_threads(self) -> int: ...
    def set_num_threads(self, num_threads: int, /) -> object: ...


class OpenBLAS(NamedTuple):
    """Its own functions: threadpoolctl, from 3.7 on, lets only the first thread that sets a number set others."""

    get_num_threads: Callable[[], int]
    set_num_threads: Callable[[int], object]


@cache
def _blas() -> list[Library]:
    """Controls of the matrix libraries in this process; none for those that have no such control."""
    return [_control(library) for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def _control(library: Any) -> Library:
    if library.internal_api == "openblas" and library.threading_layer == "pthreads":
        functions = CDLL(library.filepath)
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):  # as NumPy's and others' builds name them
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(functions, name) for name in names):
                return OpenBLAS(*(getattr(functions, name) for name in names))
    control: Library = library
    return control


def blas_obeys() -> bool:
    """Whether the matrix library can be kept to one thread; if not, products are left to it whole."""
    return bool(_blas())


class _Mine(threading.local):
    """Thread-local state."""

    def __init__(self) -> None:
        self.inside = False  # a section: what is nested belongs to it
        self.lock = RLock()  # held in a section of a process that computes with one thread
        with _registry:
            _locks.add(self.lock)


# The library's number of threads is one for the whole process, and bits depend on it.  So whoever changes it takes
# turns with whoever computes with it.  Where it is one for good nothing is changed, and nobody waits for others.
_turn = RLock()
_registry = Lock()  # of the locks below
_locks: WeakSet[Any] = WeakSet()  # every thread's own
_mine = _Mine()
_numbers: list[int] | None = None  # of the library's threads, to be given back; changed by who has the turn


def with_single_blas_thread(work: Callable[[], T]) -> T:
    """Do some work while the matrix library computes with one thread.  May be nested.

    A function, and no context manager: Ctrl-C could come between its __enter__ and the block, and nobody would leave.
    """
    return _in_turn(work, one=True)


def with_blas_threads(work: Callable[[], T]) -> T:
    """Do some work with as many threads as the matrix library has, while no other thread keeps it to one."""
    return _in_turn(work, one=False)


def _in_turn(work: Callable[[], T], one: bool) -> T:
    if _mine.inside or not _blas():
        return work()
    if n_threads() == 1:
        with _mine.lock:
            if n_threads() == 1:  # still, and as long as we hold the lock
                try:
                    _mine.inside = True
                    return work()
                finally:
                    _mine.inside = False
    with _turn:
        if not one:
            _give_back()  # what Ctrl-C has prevented
            return work()
        try:
            _mine.inside = True
            _keep_to_one()
            return work()
        finally:
            _mine.inside = False
            _give_back()


def _keep_to_one() -> None:
    global _numbers
    if _numbers is None:
        _numbers = [library.get_num_threads() for library in _blas()]
    for library in _blas():
        library.set_num_threads(1)


def _give_back() -> None:
    global _numbers
    if _numbers is not None:
        for library, number in zip(_blas(), _numbers, strict=True):
            library.set_num_threads(number)
        _numbers = None


class ThreadPool:
    """Threads that wait for jobs; faster to hand a job to than the standard library's pools."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.jobs: SimpleQueue[tuple[Job, SimpleQueue[BaseException | None]]] = SimpleQueue()
        for _ in range(size):
            Thread(target=self._work, name=NAME, daemon=True).start()

    def _work(self) -> None:
        _mine.inside = True  # its caller's section
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
def _pool(size: int) -> ThreadPool:
    return ThreadPool(size)


def _alone_after_fork() -> None:
    """Threads do not survive a fork, but the locks that they held do."""
    global _turn, _registry, _mine
    _turn, _registry = RLock(), Lock()
    _locks.clear()
    _mine = _Mine()
    _pool.cache_clear()
    _give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone_after_fork)


def parallel_for(parts: Sequence[Any], body: Callable[[Any], object]) -> None:
    """Call body with every part, on as many threads as there are parts and we may use.

    Who gets which part depends on the moment, so a body's result must not depend on the order.
    """
    number = n_threads()
    threads = min(number, len(parts))
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

    with_single_blas_thread(lambda: _pool(number - 1).run(work, threads))
