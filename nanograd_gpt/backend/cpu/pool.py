"""A thread pool for jobs of 20 us and more: idle threads spin for a while before they sleep.

Waking a thread takes longer than many a kernel.  So does waiting for the GIL, since a thread sleeps then, too: the one
that starts jobs therefore goes without the GIL until others have begun them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context  # numpy.errstate lives in it
from functools import cache, cached_property
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter
from typing import TypeAlias

import numpy as np

from ..contract import Array
from .processors import UNKNOWN, current_processor, keep_off
from .spinning import FLAG, TRUE, UNUSED, new_lines, repeated, spin, times_in

Job: TypeAlias = Callable[[], object]

THREAD_NAME = "nanograd_gpt"
SPIN_SECONDS = 1e-3  # longer than most of what a train step computes with one thread between two jobs
# After a pause the thread that starts jobs often moves to the processor of one that spins, and waits there for its end.
SPIN_SECONDS_AFTER_PAUSE = 2e-4
PAUSE_SECONDS = 2e-2
JOBS_AFTER_PAUSE = 40  # that count as soon after it: a step or two of a small model
HEAD_START_SECONDS = 5e-6  # from a flag to a thread's first work without the GIL


class ThreadPool:
    """Daemon threads that wait for jobs; each calls `prepare` first."""

    def __init__(self, size: int, prepare: Callable[[], None]) -> None:
        self.lines = new_lines(size + 1)  # one each, whose flag says that there may be a job, and one unused
        self.workers: list[Worker] = []
        self.thread_ids: list[int] = []  # the system's
        self.off = UNKNOWN  # the processor that the threads stay off
        with suppress(RuntimeError):  # the system gives no more threads: fewer do the same work
            while self.size < size:
                worker = Worker(self.lines[self.size])
                thread = Thread(target=worker.work, args=[prepare], name=THREAD_NAME, daemon=True)
                thread.start()
                self.workers.append(worker)
                if (thread_id := getattr(thread, "native_id", None)) is not None:
                    self.thread_ids.append(thread_id)

    @property
    def size(self) -> int:
        return len(self.workers)

    @cached_property
    def hand_over_seconds(self) -> float:
        """The least time that a hand-over takes the thread that starts it, measured once, in about a millisecond."""
        times = []
        for _ in range(50):
            begin = perf_counter()
            self.run(_nothing, self.size + 1)
            times.append(perf_counter() - begin)
        return min(times)

    def run(self, job: Job, times: int) -> None:
        """Run a job in up to `times` threads at once, this one among them; then raise the first error.

        Waits for the threads that have begun it; it is taken back from those that have not when this one ends.
        """
        n_others = min(times - 1, self.size)
        if (processor := current_processor()) != self.off and keep_off(self.thread_ids, processor):
            self.off = processor
        others = [w for w in self.workers[self.size - n_others :] if w.accepts(_in_current_context(job))]
        errors: list[BaseException | None] = []
        try:
            if others:
                spin(_head_start(n_others), self.lines[self.size - n_others : self.size + 1, FLAG])
            job()
        finally:
            errors += [worker.end() for worker in others]
        for error in errors:
            if error is not None:
                raise error


class Worker:
    """A thread of a pool, and the job that it is handed.

    What the lock guards is decisive; flags, and tokens that wake a sleeping thread, only say that it may have changed.
    """

    def __init__(self, line: Array) -> None:
        self.lock = Lock()
        self.job: Job | None = None  # until the thread begins it
        self.busy = False  # from then on, until it ends
        self.asleep = self.awaited = False  # this thread; another, for the job's end
        self.jobs_since_pause = 0
        self.error: BaseException | None = None
        self.wake: SimpleQueue[None] = SimpleQueue()
        self.ended: SimpleQueue[None] = SimpleQueue()
        self.start, self.done = line, new_lines(1)[0]
        self.long_spin, self.short_spin = (
            (repeated(line[TRUE : FLAG + 1], _spin_times(seconds)), self.done[FLAG : UNUSED + 1])
            for seconds in (SPIN_SECONDS, SPIN_SECONDS_AFTER_PAUSE)
        )
        self.spin_for_end = repeated(self.done[FLAG:UNUSED], _spin_times(SPIN_SECONDS_AFTER_PAUSE)), np.empty(1, bool)

    def accepts(self, job: Job) -> bool:
        """Hand over a job, unless there is another, left over by an interrupt."""
        with self.lock:
            if self.busy or self.job is not None:
                return False
            self.job, self.error, self.done[FLAG] = job, None, False
            if self.asleep:
                self.asleep = False
                self.wake.put(None)
            return True

    def end(self) -> BaseException | None:
        """Take the job back if the thread has not begun it; else wait for its end, and return its error."""
        with self.lock:
            self.job = None
        while self.busy:
            spin(*self.spin_for_end)
            with self.lock:
                self.awaited = self.busy and not self.done[FLAG]
                self.done[FLAG] = False
            if self.awaited:
                self.ended.get()
        error, self.error = self.error, None
        return error

    def work(self, prepare: Callable[[], None]) -> None:
        prepare()
        while True:
            job = self._next_job()
            try:
                job()
            except BaseException as error:  # run() raises it
                self.error = error
            del job  # and the arrays it references, while waiting for the next one
            with self.lock:
                self.busy = False
                if self.awaited:
                    self.awaited = False
                    self.ended.put(None)

    def _next_job(self) -> Job:
        while True:
            spin(*(self.long_spin if self.jobs_since_pause > JOBS_AFTER_PAUSE else self.short_spin))
            with self.lock:
                if self.job is not None:
                    job, self.job, self.busy, self.start[FLAG] = self.job, None, True, False
                    self.jobs_since_pause += 1
                    return job
                self.asleep = not self.start[FLAG]
                self.start[FLAG] = False
            if self.asleep:
                begin = perf_counter()
                self.wake.get()
                if perf_counter() - begin > PAUSE_SECONDS:
                    self.jobs_since_pause = 0


def _nothing() -> None:
    """A job whose time is that of its hand-over."""


def _in_current_context(job: Job) -> Job:
    context = copy_context()
    return lambda: context.run(job)


_spin_times = cache(times_in)


@cache
def _head_start(n: int) -> Array:
    """Flags that set n others, and then wait for none."""
    return repeated(np.array([True] * n + [False]), times_in(HEAD_START_SECONDS))
