"""A thread pool for jobs of 20 us and more: idle threads spin for a while before they sleep.

Waking a thread takes longer than many a kernel.  So does waiting for the GIL, since a thread sleeps then, too: the one
that starts jobs therefore goes without the GIL until others have begun them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context  # numpy.errstate lives in it
from functools import cache, partial
from queue import SimpleQueue
from sys import getswitchinterval, setswitchinterval
from threading import Lock, Thread
from timeit import repeat
from typing import TypeAlias

import numpy as np

from ..contract import Array
from .processors import UNKNOWN, current_processor, keep_off
from .spinning import FLAG, TRUE, UNUSED, new_lines, repeated, spin, times_in

Job: TypeAlias = Callable[[], object]

SPIN_SECONDS = 1e-3  # longer than most of what a train step computes with one thread between two jobs
END_SPIN_SECONDS = 2e-4  # a thread that takes so much longer with its part may have no processor
HEAD_START_SECONDS = 1e-5  # from a flag to a thread's first work without the GIL
SWITCH_SECONDS = 1e-3  # the interpreter's switch interval, at most: the shorter, the sooner a wait for the GIL ends


class ThreadPool:
    """Daemon threads that wait for jobs; each calls `prepare` first."""

    def __init__(self, size: int, prepare: Callable[[], None]) -> None:
        self.lines = new_lines(size + 1)  # one each, whose flag says that there may be a job, and one unused
        self.workers: list[Worker] = []
        self.thread_ids: list[int] = []  # the system's, where it tells them
        self.off = UNKNOWN  # the processor that the threads stay off
        with suppress(RuntimeError):  # the system gives no more threads: fewer do the same work
            for line in self.lines[:size]:
                worker = Worker(line)
                thread = Thread(target=worker.work, args=[prepare], name="nanograd_gpt", daemon=True)
                thread.start()
                self.workers.append(worker)
                self.thread_ids.append(getattr(thread, "native_id", UNKNOWN))
        self.size, self.in_use = len(self.workers), Lock()
        if getswitchinterval() > SWITCH_SECONDS:
            setswitchinterval(SWITCH_SECONDS)
        # the least time that a hand-over takes the thread that starts it, measured in some milliseconds
        self.hand_over_seconds = min(repeat(lambda: self.run(lambda: None, self.size + 1), number=1, repeat=200))

    def run(self, job: Job, times: int) -> None:
        """Run a job in up to `times` threads at once, this one among them; then raise the first error.

        Waits for the threads that have begun it; it is taken back from those that have not when this one ends.
        """
        if self.in_use.locked():  # by another user thread, or by the job that this one is part of
            job()
            return
        first = max(0, self.size + 1 - times)
        with self.in_use:
            if (processor := current_processor()) != self.off and keep_off(self.thread_ids, processor):
                self.off = processor
            try:
                for worker in self.workers[first:]:
                    worker.hand_over(partial(copy_context().run, job))
                if first < self.size:
                    spin(_head_start(self.size - first), self.lines[first : self.size + 1, FLAG])
                job()
            finally:
                errors = [worker.end() for worker in self.workers[first:]]
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
        self.error: BaseException | None = None
        self.wake: SimpleQueue[None] = SimpleQueue()
        self.ended: SimpleQueue[None] = SimpleQueue()
        self.start, self.done = line, new_lines(1)[0]
        self.spin_for_job = repeated(line[TRUE : FLAG + 1], times_in(SPIN_SECONDS)), self.done[FLAG : UNUSED + 1]
        self.spin_for_end = repeated(self.done[FLAG:UNUSED], times_in(END_SPIN_SECONDS)), np.empty(1, bool)

    def hand_over(self, job: Job) -> None:
        """Let the thread begin a job, once it has ended one that an interrupt left over."""
        self.end()
        with self.lock:
            self.job, self.done[FLAG] = job, False
            if self.asleep:
                self.asleep = False
                self.wake.put(None)

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
            spin(*self.spin_for_job)
            with self.lock:
                if self.job is not None:
                    job, self.job, self.busy, self.start[FLAG] = self.job, None, True, False
                    return job
                self.asleep = not self.start[FLAG]
                self.start[FLAG] = False
            if self.asleep:
                self.wake.get()


@cache
def _head_start(n: int) -> Array:
    """Flags that set n others, and then wait for none."""
    return repeated(np.array([True] * n + [False]), times_in(HEAD_START_SECONDS))
