"""The stand-in for NCCL has CuPy's names and arguments, runs as late as it may, and refuses what NCCL gets wrong."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from standin import nccl
from standin.api import api
from standin.record import CUDARuntimeError, Record

FLOATS, SUM = nccl.NCCL_FLOAT32, nccl.NCCL_SUM
OTHERS = np.array([10, 20, 30, 40], np.float32)


@pytest.fixture
def comm(standin: Record, cp: ModuleType) -> nccl.NcclCommunicator:
    """Rank 0 of two, the other of which sends OTHERS."""
    standin.gpus = 2

    def peers(value: Any) -> list[Any]:
        if len(value) == 2:
            return [value, (value[0], np.resize(OTHERS, value[1].shape))]
        i, size, _, device = value
        return [value, (i, size, 1, device + 1)]

    standin.peers = peers
    return nccl.NcclCommunicator(2, nccl.get_unique_id(), 0)


@pytest.fixture
def stream(cp: ModuleType) -> Any:
    return cp.cuda.Stream(non_blocking=True)


def follow(cp: ModuleType, stream: Any) -> None:
    """Let a stream wait for what was queued so far."""
    stream.wait_event(cp.cuda.Stream.null.record())


def wait(cp: ModuleType, stream: Any) -> None:
    """Let the default stream wait for another."""
    cp.cuda.Stream.null.wait_event(stream.record())


def test_names_and_arguments_are_cupys() -> None:
    section = api().names["cupy.cuda.nccl"]
    assert nccl.NCCL_NAMES.keys() <= section.keys()
    methods = {name: m for name, m in vars(nccl.NcclCommunicator).items() if not name.startswith("_")}
    for name, method in methods.items():
        theirs = api().names["cupy.cuda.nccl.NcclCommunicator"][name].signature
        assert theirs is not None
        assert [*inspect.signature(method).parameters][1:] == [*theirs.parameters], name


@pytest.mark.parametrize("name", ["NCCL_SUM", "NCCL_MIN", "NCCL_AVG", "NCCL_FLOAT32", "NCCL_FLOAT64"])
def test_the_constants_are_cupys(name: str) -> None:
    expected = {"NCCL_SUM": 0, "NCCL_MIN": 3, "NCCL_AVG": 4, "NCCL_FLOAT32": 7, "NCCL_FLOAT64": 8}  # of CuPy 14.2
    assert getattr(nccl, name) == expected[name]


def test_the_module_is_there_once_it_is_imported_by_its_name(cp: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"module 'cupy\.cuda' has no attribute 'nccl'"):
        _ = cp.cuda.nccl
    assert importlib.import_module("cupy.cuda.nccl").available


def test_without_the_library_the_module_has_nothing(standin: Record) -> None:
    standin.has_nccl = False
    module = importlib.import_module("cupy.cuda.nccl")
    assert not module.available
    with pytest.raises(AttributeError):
        _ = module.NCCL_PROD


def test_each_operation_computes_what_nccl_does(cp: ModuleType, comm: Any, stream: Any) -> None:
    x, y = cp.asarray(np.arange(4, dtype=np.float32)), cp.empty(4, dtype=np.float32)
    at, to = x.data.ptr, y.data.ptr
    cases: list[tuple[Callable[[], None], list[float]]] = [
        (lambda: comm.allReduce(at, to, 4, FLOATS, SUM, stream.ptr), [10, 21, 32, 43]),
        (lambda: comm.reduceScatter(at, to, 2, FLOATS, SUM, stream.ptr), [10, 21]),
        (lambda: comm.allGather(at, to, 2, FLOATS, stream.ptr), [0, 1, 10, 20]),
        (lambda: comm.broadcast(at, to, 4, FLOATS, 0, stream.ptr), [0, 1, 2, 3]),
        (lambda: comm.broadcast(at, to, 4, FLOATS, 1, stream.ptr), [10, 20, 30, 40]),
    ]
    for call, expected in cases:
        y.fill(-1)
        follow(cp, stream)
        call()
        assert y.get().tolist() == [-1] * 4  # it may run as late as this
        wait(cp, stream)
        assert y.get().tolist() == expected + [-1] * (4 - len(expected))


def test_operations_work_in_place(cp: ModuleType, comm: Any, stream: Any) -> None:
    x = cp.asarray(np.arange(4, dtype=np.float32))
    follow(cp, stream)
    comm.reduceScatter(x.data.ptr, x.data.ptr, 2, FLOATS, SUM, stream.ptr)
    wait(cp, stream)
    assert x.get().tolist() == [10, 21, 2, 3]
    comm.allGather(x.data.ptr, x.data.ptr, 2, FLOATS, stream.ptr)
    wait(cp, stream)
    assert x.get().tolist() == [10, 21, 10, 20]


@pytest.mark.parametrize("host_waits", [True, False], ids=["the host", "an event"])
def test_what_runs_on_a_stream_is_done_where_somebody_waits(cp: ModuleType, comm: Any, host_waits: bool) -> None:
    stream, event = cp.cuda.Stream(non_blocking=True), cp.cuda.Event(disable_timing=True)
    assert event.done
    x = cp.zeros(4, dtype=cp.float32)
    follow(cp, stream)
    comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, stream.ptr)
    stream.record(event)
    assert not event.done
    assert not stream.done
    if host_waits:
        cp.cuda.Device().synchronize()
    else:
        event.synchronize()
    assert event.done
    assert stream.done
    assert x.get().tolist() == OTHERS.tolist()


def test_an_operation_that_does_not_follow_the_default_streams_work_is_refused(
    cp: ModuleType, comm: Any, stream: Any
) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    follow(cp, stream)
    x += 1
    with pytest.raises(RuntimeError, match="may run before the default stream's"):
        comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, stream.ptr)


def test_an_array_that_changes_while_it_is_sent_is_refused(cp: ModuleType, comm: Any, stream: Any) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    follow(cp, stream)
    comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, stream.ptr)
    x += 1
    with pytest.raises(nccl.MisuseError, match="changed while it was sent"):
        wait(cp, stream)


def test_ranks_that_call_different_operations_are_refused(standin: Record, cp: ModuleType, comm: Any) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    comm._exchange = lambda value: [value, (("allReduce", 3, FLOATS), OTHERS[:3])]
    with pytest.raises(nccl.MisuseError, match="would hang"):
        comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, 0)


INVALID: dict[str, Callable[[Any, Any, int], object]] = {
    "the host's memory": lambda c, x, to: c.allReduce(OTHERS.ctypes.data, to, 4, FLOATS, SUM, 0),
    "an unknown type": lambda c, x, to: c.allReduce(to, to, 4, 17, SUM, 0),
    "another sum": lambda c, x, to: c.reduceScatter(to, to, 2, FLOATS, nccl.NCCL_PROD, 0),
    "an unknown root": lambda c, x, to: c.broadcast(to, to, 4, FLOATS, 2, 0),
    "after the end": lambda c, x, to: (c.destroy(), c.allReduce(to, to, 4, FLOATS, SUM, 0)),
    "asked after the end": lambda c, x, to: (c.abort(), c.check_async_error()),
}
MISUSED: dict[str, Callable[[Any, Any, int], object]] = {
    "another type": lambda c, x, to: c.allReduce(to, to, 2, nccl.NCCL_FLOAT64, SUM, 0),
    "beyond the end": lambda c, x, to: c.allReduce(to, to, 5, FLOATS, SUM, 0),
    "a count of the whole": lambda c, x, to: c.reduceScatter(to, to, 4, FLOATS, SUM, 0),
    "places that overlap": lambda c, x, to: c.allReduce(to, to + 4, 3, FLOATS, SUM, 0),
    "another rank's part": lambda c, x, to: c.reduceScatter(to, to + 8, 2, FLOATS, SUM, 0),
    "another rank's place": lambda c, x, to: c.allGather(to + 8, to, 2, FLOATS, 0),
    "a broadcast within": lambda c, x, to: c.broadcast(to, to + 4, 3, FLOATS, 0, 0),
}


@pytest.mark.parametrize("call", INVALID.values(), ids=INVALID)
def test_what_nccl_refuses_is_its_error(cp: ModuleType, comm: Any, call: Any) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    with pytest.raises(nccl.NcclError, match=r"invalid argument \(run with NCCL_DEBUG"):
        call(comm, x, x.data.ptr)


@pytest.mark.parametrize("call", MISUSED.values(), ids=MISUSED)
def test_what_nccl_does_not_see_is_refused(cp: ModuleType, comm: Any, call: Any) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    with pytest.raises(nccl.MisuseError):
        call(comm, x, x.data.ptr)


def test_an_array_on_another_gpu_is_refused(cp: ModuleType, comm: Any) -> None:
    with cp.cuda.Device(1):
        x = cp.zeros(4, dtype=cp.float32)
        with pytest.raises(nccl.NcclError):
            comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, 0)
        y = x[1:]
    assert (x.device.id, y.device.id, cp.cuda.Device().id) == (1, 1, 0)
    x = cp.zeros(4, dtype=cp.float32)
    with cp.cuda.Device(1), pytest.raises(nccl.MisuseError, match="the stream is of GPU 1"):
        comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, 0)


def test_a_gpu_for_two_ranks_is_refused(standin: Record, cp: ModuleType) -> None:
    standin.peers = lambda value: [value, (*value[:2], 1, value[3])]
    with pytest.raises(nccl.NcclError, match="invalid usage"):
        nccl.NcclCommunicator(2, nccl.get_unique_id(), 0)


def test_ranks_that_do_not_fit_together_are_refused(standin: Record, cp: ModuleType) -> None:
    standin.peers = lambda value: [value, (*value[:2], 0, value[3] + 1)]
    with pytest.raises(nccl.MisuseError, match="wait for ever"):
        nccl.NcclCommunicator(2, nccl.get_unique_id(), 0)
    with pytest.raises(nccl.NcclError):
        nccl.NcclCommunicator(2, nccl.get_unique_id(), 2)
    with pytest.raises(TypeError, match="expected bytes"):
        nccl.NcclCommunicator(2, (1,) * 128, 0)  # type: ignore[arg-type]  # as before CuPy 14


def test_gpus_are_numbered_and_each_thread_has_its_own_choice(standin: Record, cp: ModuleType) -> None:
    standin.gpus = 2
    cp.cuda.Device(1).use()
    seen: list[int] = []
    thread = Thread(target=lambda: seen.append(cp.cuda.Device().id))
    thread.start()
    thread.join()
    assert (cp.cuda.Device().id, seen) == (1, [0])
    assert cp.cuda.Device(0).pci_bus_id != cp.cuda.Device(1).pci_bus_id
    with pytest.raises(CUDARuntimeError):
        cp.cuda.Device(2).use()


def test_an_address_of_no_stream_is_refused(cp: ModuleType, comm: Any) -> None:
    x = cp.zeros(4, dtype=cp.float32)
    with pytest.raises(CUDARuntimeError):
        comm.allReduce(x.data.ptr, x.data.ptr, 4, FLOATS, SUM, 1)
