"""Compute threads: their number, work shared among them, and control of BLAS's own threads.

A thread that waits spins: BLAS's threads for milliseconds after a product, ours for up to one.  Both together need more
cores than there are, and BLAS's go on spinning while another process has their core.  Products are therefore cut among
our threads, with BLAS limited to one; skinny ones, for several texts, are BLAS's, whose threads start fastest.

The number of BLAS threads belongs to the process, and bits depend on it.  Several user threads may compute at once and
get the bits that they would get alone: code that depends on the number is serialised by a lock, held for one token of
generation at the longest.  With one thread chosen, nothing is changed and nothing waits, but for set_threads.  A call
of np.matmul outside our kernels is not serialised: one that runs meanwhile may find BLAS limited to one thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from ctypes import CDLL
from functools import cache
from itertools import product
from threading import Event, Lock, RLock, Thread
from types import SimpleNamespace
from typing import Any, TypeVar
from weakref import WeakSet

from threadpoolctl import ThreadpoolController

from ...arguments import not_allowed, shown
from ...errors import InputError, RunError
from .pool import ThreadPool

T = TypeVar("T")

MIN_HAND_OVERS = 12  # hand-overs that work worth sharing outlasts: threads that share it wait for the GIL, too

_n_threads: int | None = None


def n_threads() -> int:
    """The number of threads a kernel may use: NANOGRAD_THREADS, or BLAS's own number.

    Raises InputError if NANOGRAD_THREADS is not a valid number of threads, RunError if the system gives fewer.
    """
    global _n_threads
    if _n_threads is None:
        with _blas_lock:
            if _n_threads is None and (chosen := os.environ.get("NANOGRAD_THREADS")):
                try:
                    set_threads(chosen)
                except (InputError, RunError) as error:
                    raise type(error)(f"NANOGRAD_THREADS, an environment variable: {error}") from None
            elif _n_threads is None:
                _n_threads = max((library.get_num_threads() for library in _blas()), default=os.cpu_count() or 1)
        assert _n_threads is not None
    return _n_threads


def set_threads(number: int | str) -> None:
    """Set the number of compute threads, BLAS's included, for every user thread from its next product on.

    Waits for products that other threads have begun.  Raises InputError unless the number is 1 .. 1024, RunError if the
    system gives fewer.
    """
    global _n_threads, _saved_blas_threads
    text = number if isinstance(number, str) else shown(number)
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= 1024:
        raise not_allowed("threads", text, "a whole number 1 .. 1024")
    number = int(text)
    with _blas_lock:
        if number > max((library.get_num_threads() for library in _blas()), default=number):
            _check_startable(number)
        _saved_blas_threads = [number for _ in _blas()]
        if number > 1:
            _n_threads = number  # products that begin now wait for the lock
            with _registry_lock:
                locks = list(_section_locks)
            for lock in locks:
                with lock:  # wait for the product that its thread has begun
                    pass
        _restore_blas_threads()
        _n_threads = number


def _check_startable(number: int) -> None:
    """Raise RunError unless as many threads can run; OpenBLAS waits for ever for one that it could not start."""
    end, others = Event(), []
    try:
        for _ in range(number - 1):
            thread = Thread(target=end.wait, daemon=True)
            thread.start()
            others.append(thread)
    except RuntimeError:
        raise RunError(
            f"threads: the system gives {len(others) + 1} of {number}; choose fewer, or raise its limit (ulimit -u)"
        ) from None
    finally:
        end.set()
        for thread in others:
            thread.join()


@cache
def _blas() -> list[Any]:
    """The BLAS libraries in this process, with get_num_threads() and set_num_threads(); others are left out."""
    return [_control(library) for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def _control(library: Any) -> Any:
    """Functions for a number that all threads share; threadpoolctl's, from 3.7 on, set it for one thread only."""
    if library.internal_api == "mkl":
        names = ["MKL_Get_Max_Threads MKL_Set_Num_Threads"]
    elif library.internal_api == "openblas" and library.threading_layer != "openmp":  # names differ between builds
        affixes = product(("", "scipy_"), ("", "64_", "_64"))
        names = ["{0}openblas_get_num_threads{1} {0}openblas_set_num_threads{1}".format(*both) for both in affixes]
    else:
        return library
    functions = CDLL(library.filepath)
    for get, set_ in map(str.split, names):
        if hasattr(functions, get) and hasattr(functions, set_):
            return SimpleNamespace(get_num_threads=getattr(functions, get), set_num_threads=getattr(functions, set_))
    return library


@cache
def _openmp_blas() -> list[Any]:
    """Those of the BLAS libraries whose number of threads each thread has for itself."""
    return [library for library in _blas() if getattr(library, "threading_layer", None) == "openmp"]


def blas_threads_controllable() -> bool:
    """Whether BLAS can be limited to one thread; if not, products are not tiled."""
    return bool(_blas())


class _Local(threading.local):
    """Thread-local state."""

    def __init__(self) -> None:
        self.in_section = False  # sections nest
        self.lock = RLock()  # held in a section while one thread is chosen
        with _registry_lock:
            _section_locks.add(self.lock)


_blas_lock = RLock()  # held by code that changes the number of BLAS threads, or depends on it
_registry_lock = Lock()  # guards _section_locks
_section_locks: WeakSet[Any] = WeakSet()  # one per user thread
_local = _Local()
_saved_blas_threads: list[int] | None = None  # to restore; guarded by _blas_lock


def with_single_blas_thread(work: Callable[[], T]) -> T:
    """Run work with BLAS limited to one thread; calls may nest.

    Not a context manager: Ctrl-C between __enter__ and the block would leave the limit in place.
    """
    return _serialised(work, single=True)


def with_blas_threads(work: Callable[[], T]) -> T:
    """Run work with all BLAS threads, while no other thread limits them."""
    return _serialised(work, single=False)


def _serialised(work: Callable[[], T], single: bool) -> T:
    if _local.in_section or not _blas():
        return work()
    if n_threads() == 1:
        with _local.lock:
            if n_threads() == 1:  # set_threads, if it raises the number now, waits for the lock before BLAS gets more
                try:
                    _local.in_section = True
                    _set_own_blas_threads(1)
                    return work()
                finally:
                    _local.in_section = False
    with _blas_lock:
        if not single:
            _restore_blas_threads()  # in case Ctrl-C prevented it
            _set_own_blas_threads(n_threads())
            return work()
        try:
            _local.in_section = True
            _limit_blas_to_one()
            return work()
        finally:
            _local.in_section = False
            _restore_blas_threads()


def _set_own_blas_threads(number: int) -> None:
    for library in _openmp_blas():
        library.set_num_threads(number)


def _limit_blas_to_one() -> None:
    global _saved_blas_threads
    if _saved_blas_threads is None:
        _saved_blas_threads = [library.get_num_threads() for library in _blas()]
    for library in _blas():
        library.set_num_threads(1)


def _restore_blas_threads() -> None:
    global _saved_blas_threads
    if _saved_blas_threads is not None:
        for library, number in zip(_blas(), _saved_blas_threads, strict=True):
            library.set_num_threads(number)
        _saved_blas_threads = None


@cache
def _pool(size: int) -> ThreadPool:
    return ThreadPool(size, _enter_section)


def _enter_section() -> None:
    """Let this thread work inside the sections of those that hand it jobs."""
    _local.in_section = True
    _set_own_blas_threads(1)


def _reset_after_fork() -> None:
    """Reset locks and pools in a forked child: threads do not survive a fork, but locks that they held do."""
    global _blas_lock, _registry_lock, _local
    _blas_lock, _registry_lock = RLock(), Lock()
    _section_locks.clear()
    _local = _Local()
    _pool.cache_clear()
    _restore_blas_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def is_long_enough(seconds: float) -> bool:
    """Whether work that takes one thread so long is done sooner by n_threads()."""
    number = n_threads()
    return number > 1 and seconds > MIN_HAND_OVERS * _pool(number - 1).hand_over_seconds


def parallel_for(items: Sequence[Any], body: Callable[[Any], object], shared: bool = True) -> None:
    """Call body with every item, BLAS limited to one thread: on min(len(items), n_threads()) threads, or on this one.

    Threads take items as they become free, so a body's result must not depend on the order.
    """
    number = n_threads() if shared else 1
    threads = min(number, len(items))
    remaining = deque(items)

    def work() -> None:
        while remaining:
            try:
                item = remaining.popleft()
            except IndexError:  # another thread was faster
                return
            body(item)

    with_single_blas_thread(work if threads < 2 else lambda: _pool(number - 1).run(work, threads))
