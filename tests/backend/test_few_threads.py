"""A system that gives fewer threads than were asked for, or none: the same work and bits, or one line; never a wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend.cpu import threads
from nanograd_gpt.backend.cpu.threads import parallel_for
from nanograd_gpt.bench.machine import bytes_per_second
from nanograd_gpt.cli.signals import Signals
from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.weights.resumable_download import _resolve_host

STARTER = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"  # from 3.13


@pytest.fixture(autouse=True)
def _number_as_before() -> Iterator[None]:
    before = threads.n_threads()
    threads._pool.cache_clear()
    yield
    threads._pool.cache_clear()
    threads.set_threads(before)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the system start so many threads more, then none."""

    def start_at_most(n: int) -> None:
        left = [None] * n
        start: Any = getattr(threading, STARTER)

        def start_while_left(*arguments: Any, **named: Any) -> Any:
            if not left:
                raise RuntimeError("can't start new thread")
            left.pop()
            return start(*arguments, **named)

        monkeypatch.setattr(threading, STARTER, start_while_left)

    return start_at_most


@pytest.mark.parametrize("given", [0, 1, 2])
def test_fewer_threads_do_all_parts(limit: Callable[[int], None], given: int) -> None:
    threads.set_threads(4)
    limit(given)
    done: list[int] = []
    parallel_for(range(20), done.append)
    assert sorted(done) == list(range(20))
    assert threads._pool(3).size == given


def test_fewer_threads_have_the_same_bits(limit: Callable[[int], None]) -> None:
    threads.set_threads(3)
    a, b = np.random.default_rng(0).standard_normal((2, 300, 300)).astype(np.float32)
    rows = [slice(i, i + 50) for i in range(0, 300, 50)]
    products = []
    for given in (2, 0):
        threads._pool.cache_clear()
        limit(given)
        out = np.zeros((300, 300), np.float32)
        parallel_for(rows, lambda part, out=out: np.matmul(a[part], b, out=out[part]))
        products.append(out.tobytes())
    assert products[0] == products[1]


def test_more_threads_than_the_system_gives_are_refused_before_blas_waits_for_them(
    limit: Callable[[int], None],
) -> None:
    threads.set_threads(1)
    limit(2)
    with pytest.raises(RunError, match=r"^threads: the system gives 3 of 64; choose fewer, or raise its limit"):
        threads.set_threads(64)
    assert threads.n_threads() == 1


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    for number in (10**5000, "9" * 5000):
        with pytest.raises(InputError, match=r"is not allowed; choose a whole number 1 \.\. 1024") as error:
            threads.set_threads(number)
        assert len(str(error.value)) < 200


def test_bandwidth_is_measured_with_one_thread_where_there_is_no_other(limit: Callable[[int], None]) -> None:
    limit(0)
    assert bytes_per_second("cpu", rounds=1) > 0


def test_a_signal_is_recorded_though_no_thread_can_tell_it(limit: Callable[[int], None]) -> None:
    told: list[str] = []
    limit(0)
    with Signals(told.append) as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    assert told == []


def test_without_a_thread_an_address_is_left_to_the_request(limit: Callable[[int], None]) -> None:
    limit(0)
    _resolve_host("https://address.invalid/file")
