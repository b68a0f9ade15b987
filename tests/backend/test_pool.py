"""A pool's threads, and the hand-over of jobs to them, whether they spin or sleep."""

from __future__ import annotations

from collections import Counter
from itertools import count
from sys import getswitchinterval, setswitchinterval
from threading import Barrier, Event, Thread, get_ident
from time import monotonic, sleep

import numpy as np
import pytest

from nanograd_gpt.backend.cpu import pool as pools
from nanograd_gpt.backend.cpu.pool import ThreadPool, Worker
from nanograd_gpt.backend.cpu.spinning import new_lines


def nothing() -> None:
    """Do nothing."""


@pytest.fixture(params=[0.0, 0.01], ids=["threads that sleep at once", "threads that spin"])
def _waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPIN_SECONDS", "END_SPIN_SECONDS"):
        monkeypatch.setattr(pools, name, request.param)


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
    worker.hand_over(nothing)
    assert worker.job is nothing
    assert worker.end() is None
    assert worker.job is None


@pytest.mark.usefixtures("_waiting")
def test_an_interrupt_while_a_job_is_handed_over_ends_it_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, begun, ended, handed_over = ThreadPool(2, nothing), Event(), Event(), []
    hand_over = Worker.hand_over

    def interrupted(worker: Worker, job: pools.Job) -> None:
        hand_over(worker, job)
        handed_over.append(worker)
        if len(handed_over) == 2:
            assert begun.wait(20)
            raise KeyboardInterrupt

    def job() -> None:
        begun.set()
        sleep(0.02)
        ended.set()

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.run(job, 3)
    assert ended.is_set()
    assert not any(worker.busy or worker.job for worker in pool.workers)


def test_a_job_left_over_by_an_interrupt_ends_before_the_next_begins() -> None:
    pool, ended = ThreadPool(1, nothing), Event()

    def left_over() -> None:
        sleep(0.02)
        ended.set()
        raise ZeroDivisionError  # which nobody waits for

    pool.workers[0].hand_over(left_over)
    while not pool.workers[0].busy:
        sleep(1e-4)
    pool.run(lambda: None if ended.is_set() else 1 / 0, 2)


@pytest.mark.usefixtures("_waiting")
def test_threads_that_share_a_pool_each_get_their_jobs_done() -> None:
    pool, done, rounds = ThreadPool(2, nothing), [0] * 3, 300

    def user(k: int) -> None:
        for _ in range(rounds):
            by: list[int] = []
            pool.run(lambda by=by: by.append(get_ident()), 3)
            done[k] += get_ident() in by

    users = [Thread(target=user, args=[k], daemon=True) for k in range(3)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join(60)
    assert done == [rounds] * 3


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


@pytest.mark.parametrize(("before", "after"), [(5e-3, 1e-3), (1e-4, 1e-4)])
def test_a_pool_shortens_a_long_switch_interval_and_keeps_a_short_one(before: float, after: float) -> None:
    usual = getswitchinterval()
    try:
        setswitchinterval(before)
        ThreadPool(1, nothing)
        assert getswitchinterval() == pytest.approx(after)
    finally:
        setswitchinterval(usual)
