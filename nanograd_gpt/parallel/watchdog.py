"""A watchdog on each rank: it ends the run, with one line, when another rank does not answer for too long.

A rank that waits in an operation of all ranks longer than the limit asks every other.  The watchdog's thread answers
there even while that rank computes or writes files, so only a rank that is gone, stopped or out of reach is silent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import numpy as np

QUESTION, ANSWER, REPORTED = 1, 2, 3  # tags of messages, which are empty
PAUSE = 0.1  # seconds between looks
ANSWER_WITHIN = 2.0  # seconds
TURN, LATEST_TURN = 0.05, 1.0  # seconds that a rank leaves to each lower one to report first
EXIT_AFTER = 1.5  # seconds after a report, if Abort has not ended all by then


class Watchdog:
    """Watches the operations that all ranks take part in.

    comm                a communicator of its own, so that its messages never mix with the training's
    limit               float > 0: seconds that an operation may wait before the other ranks are asked
    places              where each rank runs, as people are told
    """

    def __init__(self, comm: Any, limit: float, places: Sequence[str]) -> None:
        self.comm, self.limit, self.places = comm, limit, places
        self.others = [rank for rank in range(comm.size) if rank != comm.rank]
        self.since: float | None = None  # when the present operation began to wait
        self.operation = ""
        self.queued: Callable[[], float | None] = lambda: None  # the same of what a GPU waits for, not this process
        self.heard = 0.0  # when all have answered
        self.reported = False  # by another rank
        self.sent: list[tuple[Any, Any]] = []  # messages under way, with what keeps their memory
        self.ended = Event()
        self.thread = Thread(target=self._watch, name="nanograd_gpt watchdog", daemon=True)
        self.thread.start()

    @contextmanager
    def waiting(self, operation: str) -> Iterator[None]:
        """Watch an operation of all ranks in this block."""
        self.operation, self.since = operation, monotonic()
        try:
            yield
        finally:
            self.since = None

    def end(self) -> None:
        """Stop watching."""
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(PAUSE):
            self._read()
            since = self._waits_since()
            if since is None or monotonic() - max(since, self.heard) < self.limit:
                continue
            silent = self._silent()
            if not silent:
                self.heard = monotonic()  # all are there: one of them takes long
            elif self._waits_since() == since:  # or else it has ended, and a rank with it that has no more to do
                self._report(silent)

    def _waits_since(self) -> float | None:
        return self.queued() if self.since is None else self.since

    def _send(self, rank: int, tag: int) -> None:
        nothing = np.empty(0, dtype=np.uint8)
        self.sent = [(request, kept) for request, kept in self.sent if not request.Test()]
        self.sent.append((self.comm.Isend(nothing, rank, tag), nothing))

    def _read(self) -> set[int]:
        """Answer questions; returns the ranks that have answered."""
        from mpi4py import MPI

        answered, status = set(), MPI.Status()
        while self.comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            rank, tag = status.Get_source(), status.Get_tag()
            self.comm.Recv(np.empty(0, dtype=np.uint8), rank, tag)
            if tag == QUESTION:
                self._send(rank, ANSWER)
            elif tag == ANSWER:
                answered.add(rank)
            else:
                self.reported = True
        return answered

    def _silent(self) -> list[int]:
        """Ask all other ranks; returns those that do not answer."""
        for rank in self.others:
            self._send(rank, QUESTION)
        silent, deadline = set(self.others), monotonic() + ANSWER_WITHIN
        while silent and monotonic() < deadline:
            silent -= self._read()
            sleep(PAUSE / 10)
        return sorted(silent)

    def _report(self, silent: Sequence[int]) -> None:
        """End the run; the lowest rank that sees it says why."""
        turn = monotonic() + min(TURN * self.comm.rank, LATEST_TURN)
        while monotonic() < turn and not self.reported:
            self._read()
            sleep(PAUSE / 10)
        # Abort waits for a host that is out of reach, and keeps Python's lock; mpiexec waits too, unless a signal ends
        # a rank
        if hasattr(signal, "setitimer"):  # not on Windows
            signal.setitimer(signal.ITIMER_REAL, EXIT_AFTER)
        if not self.reported:
            for rank in self.others:
                self._send(rank, REPORTED)
            names = ", ".join(f"rank {rank} ({self.places[rank]})" for rank in silent)
            verb = "does" if len(silent) == 1 else "do"
            line = (
                f"error: {names} {verb} not answer, for {self.limit:g} s in {self.operation}; the run ends, resume it "
                "with --resume"
            )
            with suppress(OSError):
                print(line, file=sys.stderr, flush=True)
            self.comm.Abort(1)
        sleep(2 * EXIT_AFTER)
        os._exit(1)
