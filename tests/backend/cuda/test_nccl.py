"""backend/cuda/nccl.py on the stand-in for NCCL, and with a single process on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import numpy as np
import pytest
from standin.either import simulator_or_gpu
from standin.nccl import NcclError
from standin.record import Record

from nanograd_gpt.backend.select import gpu_of_this_process, to_host
from nanograd_gpt.errors import RunError

SIZE, RANK = 3, 1
OTHERS = np.arange(12).reshape(2, 6) ** 2  # what ranks 0 and 2 send


@pytest.fixture
def among_three(standin: Record | None) -> Any:
    """Rank 1 of three on the stand-in, the others of which send OTHERS in the type of rank 1's own."""
    from nanograd_gpt.backend.cuda.nccl import Communicator, unique_id

    if standin is None:
        pytest.skip("needs the stand-in, which plays the other ranks")
    standin.gpus = SIZE

    def peers(value: Any) -> list[Any]:
        if len(value) == 4:
            i, size, _, _ = value
            return [(i, size, 0, 1), value, (i, size, 2, 2)]
        key, own = value
        first, last = (row[: own.size].astype(own.dtype) for row in OTHERS)
        return [(key, first), value, (key, last)]

    standin.peers = peers
    return Communicator(SIZE, RANK, unique_id())


@pytest.fixture(params=["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
def alone(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The only rank there is."""
    with simulator_or_gpu(request.param):
        from nanograd_gpt.backend.cuda.nccl import Communicator, nccl_problem, unique_id

        if problem := nccl_problem():
            pytest.skip(f"needs CuPy with NCCL: {problem}")
        communicator = Communicator(1, 0, unique_id())
        yield communicator
        communicator.close()


def own(dtype: Any = np.float32) -> Any:
    import cupy

    return cupy.asarray(np.arange(6, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_operation_of_three_ranks(dtype: Any, among_three: Any) -> None:
    mine, total = np.arange(6), np.arange(6) + OTHERS.sum(axis=0)
    assert to_host(among_three.sum(own(dtype))).tolist() == total.tolist()
    assert to_host(among_three.broadcast(own(dtype))).tolist() == OTHERS[0].tolist()
    part = own(dtype)
    among_three.sum_part(part)
    assert to_host(part)[2:4].tolist() == total[2:4].tolist()
    parts = own(dtype)
    among_three.gather_parts(parts)
    assert to_host(parts).tolist() == [*OTHERS[0, :2], *mine[2:4], *OTHERS[1, :2]]


def test_several_sums_that_have_begun_are_there_after_finish(among_three: Any, simulator: Record) -> None:
    x, y = own(), own()
    x += 1
    among_three.begin_sum(x[:2])
    y *= 2  # computed meanwhile
    among_three.begin_sum(y[2:])
    assert to_host(x).tolist() == [1, 2, 3, 4, 5, 6]  # nobody has waited yet
    among_three.finish()
    assert to_host(x).tolist() == [1 + 36, 2 + 50, 3, 4, 5, 6]
    assert to_host(y).tolist() == [0, 2, 4 + 36, 6 + 50, 8 + 68, 10 + 90]
    assert [sync.partition(" ")[0] for sync in simulator.syncs] == ["get"] * 3


def test_alone_every_operation_leaves_an_array_as_it_is(alone: Any) -> None:
    x = own()
    alone.begin_sum(x[2:])
    alone.finish()
    alone.sum(x)
    alone.sum_part(x)
    alone.gather_parts(x)
    alone.broadcast(x)
    alone.check()
    assert to_host(x).tolist() == [*range(6)]
    assert alone.waits_since() is None


WRONG: dict[str, tuple[type[Exception], str, Callable[[Any], Any]]] = {
    "host": (TypeError, "got a ndarray, expected a CuPy array", to_host),
    "type": (TypeError, "an array of int64, expected float32 or float64", lambda x: x.astype(np.int64)),
    "strides": (ValueError, r"of shape \(3,\) is not contiguous", lambda x: x[::2]),
}


@pytest.mark.parametrize("name", ["begin_sum", "sum", "sum_part", "gather_parts", "broadcast"])
@pytest.mark.parametrize(("error", "message", "changed"), WRONG.values(), ids=WRONG)
def test_other_arrays_are_refused(
    name: str, error: type[Exception], message: str, changed: Callable[[Any], Any], alone: Any
) -> None:
    with pytest.raises(error, match=f"NCCL: .*{message}"):
        getattr(alone, name)(changed(own()))


def test_an_array_of_another_gpu_is_refused(among_three: Any) -> None:
    import cupy

    with cupy.cuda.Device(2):
        x = own()
    with pytest.raises(ValueError, match="NCCL: an array on GPU 2, expected one on GPU 0"):
        among_three.sum(x)


@pytest.mark.parametrize("name", ["sum_part", "gather_parts"])
def test_an_array_that_cannot_be_cut_equally_is_refused(name: str, among_three: Any) -> None:
    with pytest.raises(ValueError, match="NCCL: an array of 5 elements cannot be cut into 3 equal parts"):
        getattr(among_three, name)(own()[:5])


@pytest.mark.parametrize("forgotten", ["_begin", "finish"])
def test_an_order_that_is_forgotten_is_seen(forgotten: str, among_three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    total = (np.arange(6) + OTHERS.sum(axis=0)).tolist()
    assert to_host(among_three.sum(own())).tolist() == total
    monkeypatch.setattr(among_three, forgotten, lambda: None)
    if forgotten == "_begin":
        with pytest.raises(RuntimeError, match="may run before"):
            among_three.sum(own())
    else:
        assert to_host(among_three.sum(own())).tolist() != total


def test_the_oldest_operation_under_way_tells_since_when_it_waits(among_three: Any) -> None:
    import cupy

    begun = monotonic()
    among_three.begin_sum(own())
    for _ in range(2):
        event = among_three.stream.record(cupy.cuda.Event(disable_timing=True))
        among_three.under_way.append((monotonic(), event))
    assert begun <= among_three.waits_since() <= among_three.under_way[1][0]
    among_three.finish()
    assert among_three.waits_since() is None


@pytest.mark.usefixtures("simulator")
def test_a_failure_is_one_line_that_says_what_to_do(simulator: Record) -> None:
    from nanograd_gpt.backend.cuda.nccl import Communicator, unique_id

    advice = "NCCL_DEBUG=INFO in the environment shows why, and all hosts need the same nvidia-nccl-cu12$"
    communicator = Communicator(1, 0, unique_id())
    simulator.failing |= {"nccl": NcclError(5), "NCCL's network": NcclError(6)}
    with pytest.raises(RunError, match=f"ranks: NCCL does not join the GPUs: .* invalid usage .*; {advice}"):
        Communicator(1, 0, unique_id())
    with pytest.raises(RunError, match=f"ranks: NCCL lost the other GPUs: .* remote process exited .*; {advice}"):
        communicator.check()


def test_processes_take_the_gpus_of_their_host_in_turn(simulator: Record) -> None:
    import cupy

    simulator.gpus = 2
    found = [gpu_of_this_process(number) for number in range(3)]
    assert [problem for _, problem in found] == [None] * 3
    assert found[0] == found[2] != found[1]
    assert cupy.cuda.Device().id == 0
    assert own().device.id == 0


def test_a_missing_library_or_gpu_is_told_with_what_to_install(simulator: Record) -> None:
    simulator.has_nccl = False
    assert gpu_of_this_process(0)[1] == "NCCL is not installed (pip install nvidia-nccl-cu12)"
    simulator.status = 100
    _, problem = gpu_of_this_process(0)
    assert problem == "CuPy is installed but finds no GPU (nvidia-smi -L lists them)"
