"""Threads of the pool stay off the processor of the thread that hands them jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from nanograd_gpt.backend.cpu import pool as pools
from nanograd_gpt.backend.cpu import processors
from nanograd_gpt.backend.cpu.pool import ThreadPool
from nanograd_gpt.backend.cpu.processors import UNKNOWN, current_processor, keep_off

PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
needs_two_processors = pytest.mark.skipif(
    len(PROCESSORS) < 2, reason="this process may use one processor only, or the system does not tell which"
)


def nothing() -> None:
    """Do nothing."""


@pytest.fixture
def other_thread() -> Iterator[int]:
    """The system's id of a thread that waits."""
    end = Event()
    thread = Thread(target=end.wait, daemon=True)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    end.set()
    thread.join()


@needs_two_processors
def test_a_thread_runs_on_a_processor_that_it_may_use() -> None:
    assert current_processor() in PROCESSORS


@needs_two_processors
def test_a_thread_is_kept_off_one_processor_at_a_time(other_thread: int) -> None:
    for processor in sorted(PROCESSORS):
        assert keep_off([other_thread], processor)
        assert os.sched_getaffinity(other_thread) == PROCESSORS - {processor}
    assert os.sched_getaffinity(0) == PROCESSORS  # this thread's are left


@needs_two_processors
def test_processors_are_shared_where_there_are_fewer_than_threads(other_thread: int) -> None:
    assert not keep_off([other_thread] * len(PROCESSORS), min(PROCESSORS))
    assert os.sched_getaffinity(other_thread) == PROCESSORS


@pytest.mark.parametrize("refused", ["sched_getaffinity", "sched_setaffinity"])
def test_a_system_that_forbids_it_is_no_error(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    assert keep_off([1], 0)
    monkeypatch.setattr(os, refused, refuse)
    assert not keep_off([1], 0)


@needs_two_processors
def test_threads_of_a_pool_stay_off_the_processor_of_whoever_hands_them_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(1, nothing)
    for processor in sorted(PROCESSORS):
        monkeypatch.setattr(pools, "current_processor", lambda processor=processor: processor)
        pool.run(nothing, 2)
        assert os.sched_getaffinity(pool.thread_ids[0]) == PROCESSORS - {processor}


def test_a_pool_works_where_the_system_does_not_tell_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_sched_getcpu", lambda: UNKNOWN)
    assert current_processor() == UNKNOWN
    pool, done = ThreadPool(1, nothing), []
    pool.run(lambda: done.append(True), 2)
    assert done
    assert pool.off == UNKNOWN
