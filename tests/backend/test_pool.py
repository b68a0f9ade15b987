"""A pool's threads, and the hand-over of jobs to them, whether they spin or sleep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from threading import Barrier, Event, get_ident
from time import monotonic, sleep

import numpy as np
import pytest

from nanograd_gpt.backend.cpu import pool as pools
from nanograd_gpt.backend.cpu.pool import ThreadPool, Worker
from nanograd_gpt.backend.cpu.spinning import new_lines


def nothing() -> None:
    """Do nothing."""


@pytest.fixture(params=[1, 10**6], ids=["threads that sleep at once", "threads that spin"])
def _waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pools, "_spin_times", lambda _: request.param)
    return


@pytest.mark.usefixtures("_waiting")
@pytest.mark.parametrize("size", [0, 1, 3])
def test_each_of_many_jobs_is_done_once_by_each_thread_that_begins_it(size: int) -> None:
    pool, rng = ThreadPool(size, nothing), np.random.default_rng(size)
    for times in rng.integers(1, size + 3, 300).tolist():
        done: list[int] = []
        pool.run(lambda done=done: done.append(get_ident()), times)
        assert get_ident() in done
        assert max(Counter(done).values()) == 1
        assert len(done) <= min(times, size + 1)
        sleep(rng.choice([0, 0, 0, 1e-4, 2e-3]))


@pytest.mark.usefixtures("_waiting")
def test_all_threads_that_are_asked_for_work_at_once() -> None:
    pool = ThreadPool(2, nothing)
    for times in (3, 2, 3):
        together = Barrier(times, timeout=20)  # nobody passes before all are there
        pool.run(together.wait, times)


@pytest.mark.usefixtures("_waiting")
def test_a_job_that_another_thread_has_begun_is_waited_for() -> None:
    pool, numbers, begun, ended = ThreadPool(1, nothing), count(), Event(), []

    def job() -> None:
        if next(numbers) == 0:
            assert begun.wait(20)  # this thread or the other, whichever comes first
            return
        begun.set()
        sleep(0.02)
        ended.append(True)

    for _ in range(3):
        numbers, begun, ended = count(), Event(), []
        pool.run(job, 2)
        assert ended == [True]


def test_a_job_that_a_thread_has_not_begun_is_taken_back() -> None:
    worker = Worker(new_lines(1)[0])  # whose thread is not started
    assert worker.accepts(nothing)
    assert not worker.accepts(nothing)
    assert worker.end() is None
    assert worker.accepts(nothing)


@pytest.mark.usefixtures("_waiting")
def test_errors_of_any_thread_are_raised_when_all_have_ended_and_the_next_job_is_done() -> None:
    pool, together = ThreadPool(2, nothing), Barrier(3, timeout=20)

    def fail() -> None:
        together.wait()
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.run(fail, 3)
        pool.run(together.wait, 3)


def test_a_thread_without_a_job_sleeps_after_a_while() -> None:
    pool = ThreadPool(1, nothing)
    pool.run(nothing, 2)
    end = monotonic() + 20
    while not pool.workers[0].asleep:
        assert monotonic() < end
        sleep(1e-3)


def test_a_hand_over_takes_some_time() -> None:
    assert 0 < ThreadPool(1, nothing).hand_over_seconds < 1
