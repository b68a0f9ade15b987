"""CUDA graphs on the stand-in behave as on a GPU: capturing runs nothing, and a launch runs all of it again."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from standin.record import CUDARuntimeError, Record


def captured(cp: ModuleType, step: Any) -> tuple[Any, Any]:
    stream = cp.cuda.Stream()
    with stream:
        stream.begin_capture()
        try:
            result = step()
        finally:
            graph = stream.end_capture()
    return graph, result


def test_a_captured_step_runs_at_each_launch_and_not_before(cp: ModuleType) -> None:
    x, y = cp.asarray(np.arange(4.0)), cp.zeros(4)

    def step() -> Any:
        nonlocal x
        x += 1
        y[1:] = (x * x)[1:]
        return x.reshape(2, 2).sum(axis=0)

    graph, total = captured(cp, step)
    assert x.get().tolist() == [0, 1, 2, 3]
    assert np.isnan(total.get()).all()
    graph.launch()
    graph.launch()
    assert x.get().tolist() == [2, 3, 4, 5]
    assert y.get().tolist() == [0, 9, 16, 25]
    assert total.get().tolist() == [6, 8]


def test_the_host_may_not_wait_or_send_arrays_while_a_stream_captures(cp: ModuleType) -> None:
    x = cp.zeros(3)
    for call in (
        lambda: float(x[0]),
        lambda: x.get(),
        lambda: cp.asarray(np.ones(3)),
        lambda: cp.cuda.Stream().begin_capture(),
    ):
        with pytest.raises(CUDARuntimeError, match="capturing"):
            captured(cp, call)
    captured(cp, lambda: x + 1)  # a failed capture has ended


def test_the_default_stream_captures_nothing(cp: ModuleType) -> None:
    with pytest.raises(CUDARuntimeError, match="capturing"):
        cp.cuda.Stream.null.begin_capture()


def test_a_graph_is_one_launch(cp: ModuleType, standin: Record) -> None:
    graph, _ = captured(cp, lambda: cp.ones(3) + 1)
    standin.launches.clear()
    graph.launch()
    assert standin.launches == ["graph"]
