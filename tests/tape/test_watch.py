"""Watching ends when the last watcher does, and is each thread's own."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from tape.small import IDS, model_of

import nanograd_gpt as ng
from nanograd_gpt import tensor
from nanograd_gpt.tape.watch import Watcher, calls, replaced, watched


def test_two_threads_that_record_at_once_have_a_tape_each() -> None:
    before, barrier = tensor.record, Barrier(2, timeout=60)

    def taped(n: int) -> int:
        with ng.record() as tape:
            barrier.wait()
            for _ in range(n):
                ng.Tensor([1.0]).exp()
            barrier.wait()
        return len(tape.operations)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(taped, [1, 3])) == [1, 3]
    assert tensor.record is before


def test_a_tape_goes_on_when_one_of_another_thread_has_ended() -> None:
    def other() -> None:
        with ng.record():
            ng.Tensor([1.0]).exp()

    with ThreadPoolExecutor(1) as pool, ng.record() as tape:
        pool.submit(other).result()
        ng.Tensor([1.0]).log()
    assert [o.name for o in tape.operations] == ["Log"]


def test_the_calls_around_an_operation_are_known_while_somebody_watches_and_only_then() -> None:
    seen = []

    class Asking(ng.Module):
        def forward(self, x: ng.Tensor) -> ng.Tensor:
            seen.append([type(call.module).__name__ for call in calls()])
            return x

    model = ng.Sequential(ng.Sequential(Asking()))
    model(ng.Tensor(1.0))
    with watched(Watcher()):
        model(ng.Tensor(1.0))
    assert seen == [[], ["Sequential", "Sequential", "Asking"]]


def test_a_watcher_that_overrides_nothing_changes_nothing() -> None:
    model = model_of(drop_rate=0.3)
    twin = model_of(drop_rate=0.3)
    with watched(Watcher()), watched(Watcher()):
        model.loss(IDS, IDS).backward()
        ng.AdamW(model.parameters()).step()
    twin.loss(IDS, IDS).backward()
    ng.AdamW(twin.parameters()).step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_an_attribute_is_as_before_afterwards_whether_own_or_inherited() -> None:
    class Base:
        size = 1

    class Derived(Base):
        pass

    with replaced(Base, "size", 2), replaced(Derived, "size", 3):
        assert (Base.size, Derived.size) == (2, 3)
    assert (Base.size, "size" in vars(Derived)) == (1, False)


@np.errstate(all="ignore")
def test_anomaly_detection_names_the_users_line_also_on_tape() -> None:
    with ng.detect_anomaly(), ng.record(), pytest.raises(ng.NonFiniteError) as error:
        ng.Tensor([0.0]).log()
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]  # CPython has frames
    assert str(error.value).endswith(f"called at {__file__}:{line - 1}")
