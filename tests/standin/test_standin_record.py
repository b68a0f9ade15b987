"""The stand-in records where the host waits, has a device to query, and is removed without a trace."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from standin.api import api
from standin.cupy_standin import MODULES, forget_cuda_backend, installed
from standin.device_array import DeviceArray
from standin.record import CUDARuntimeError, Record, deeds

# The record.


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("bool", lambda cp, x: bool(x.sum() > 0)),
        ("bool", lambda cp, x: x.any() or None),
        ("float", lambda cp, x: float(x.sum())),
        ("int", lambda cp, x: int(x.argmax())),
        ("complex", lambda cp, x: complex(x[0, 0])),
        ("item", lambda cp, x: x.sum().item()),
        ("tolist", lambda cp, x: x.tolist()),
        ("get", lambda cp, x: x.get()),
        ("get", lambda cp, x: cp.asnumpy(x)),
        ("get", lambda cp, x: pickle.dumps(x)),
        ("format", lambda cp, x: f"{x.sum():.3f}"),
        ("str", lambda cp, x: str(x)),
        ("repr", lambda cp, x: repr(x)),
        ("tobytes", lambda cp, x: x.tobytes()),
        ("nonzero", lambda cp, x: x.nonzero()),
        ("nonzero", lambda cp, x: cp.nonzero(x)),
        ("where", lambda cp, x: cp.where(x > 1)),
        ("argwhere", lambda cp, x: cp.argwhere(x)),
        ("unique", lambda cp, x: cp.unique(x)),
        ("item", lambda cp, x: cp.arange(x.size - x.ndim + x.any())),
        ("slice bound", lambda cp, x: x[: cp.asarray(2)]),
        ("repeat", lambda cp, x: cp.repeat(x, cp.asarray([1, 2, 3]), axis=0)),
        ("repeat", lambda cp, x: x.repeat([1, 2, 3], axis=0)),
        ("fill", lambda cp, x: x.fill(x[0, 0])),
        ("mask index", lambda cp, x: x[np.bool_(True)]),
        ("blocking upload", lambda cp, x: cp.asarray(2, blocking=True)),
        ("Device.synchronize", lambda cp, x: cp.cuda.Device().synchronize()),
        ("Stream.synchronize", lambda cp, x: cp.cuda.Stream.null.synchronize()),
        ("deviceSynchronize", lambda cp, x: cp.cuda.runtime.deviceSynchronize()),
    ],
)
def test_what_makes_the_host_wait_is_recorded(cp: ModuleType, x: Any, standin: Record, name: str, call: Any) -> None:
    call(cp, x)
    assert deeds(standin.syncs) == [name]


def test_what_stays_on_the_device_is_not_recorded(cp: ModuleType, x: Any, standin: Record) -> None:
    y = cp.where(x > 1, cp.tanh(x), 0).sum(axis=0, keepdims=True) @ x.T
    y += x.max() * 2.0
    y[0, 1:] = copy.copy(y)[0, :-1]
    cp.asarray(3.0)  # a scalar travels with the kernel
    x.get(blocking=False)
    assert standin.syncs == standin.uploads == []


def test_an_entry_names_the_line_that_waited(cp: ModuleType, x: Any, standin: Record) -> None:
    float(x.sum())
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]  # CPython has frames
    assert standin.syncs == [f"float at standin/{Path(__file__).name}:{line}"]


def test_copies_to_the_device_are_recorded_apart(cp: ModuleType, standin: Record) -> None:
    y = cp.asarray(np.zeros((2, 3), np.float32))
    y.set(np.ones((2, 3), np.float32))
    cp.array([1, 2, 3])
    cp.add.at(y, cp.arange(2), np.ones(3, np.float32))
    assert deeds(standin.uploads) == ["float32[2, 3]", "set float32[2, 3]", "int64[3]", "summed values"]
    assert standin.syncs == []


def test_operations_of_cupys_own_are_recorded_and_views_are_none(cp: ModuleType, standin: Record) -> None:
    y = cp.asarray(np.ones((2, 3), np.float32))
    y.T, y.reshape(3, 2), y[0, 1:], y[None], cp.broadcast_to(y, (2, 2, 3)), y.astype(np.float32, copy=False)
    cp.asarray(y)
    cp.empty(3), cp.empty_like(y)
    assert standin.operations == []
    y += y @ y.T[:, :1]
    cp.where(y > 1, cp.exp(y), 0).sum(axis=0)
    y[0, 1:] = 2
    y[cp.arange(2), 1]
    y.sort()
    y.T.copy(), cp.concatenate([y, y]), y.argmax(), cp.array(y), y.fill(0), cp.zeros_like(y)
    expected = ["matmul", "add", "greater", "exp", "where", "sum", "setitem", "arange", "getitem", "sort", "copy"]
    assert standin.operations == [*expected, "concatenate", "argmax", "array", "fill", "copyto"]


def test_the_record_stays_after_the_block_and_starts_anew_with_the_next() -> None:
    with installed() as first:
        float(sys.modules["cupy"].zeros(()))
    assert deeds(first.syncs) == ["float"]
    with installed() as second:
        assert second.syncs == []


# The device.


def test_the_device_can_be_asked_about(cp: ModuleType) -> None:
    assert cp.is_available()
    assert cp.cuda.is_available()
    assert cp.cuda.runtime.getDeviceCount() == 1
    with cp.cuda.Device(0) as gpu, cp.cuda.Stream(non_blocking=True):
        free, total = gpu.mem_info
        assert 0 < free <= total
        assert gpu.compute_capability == "90"
        assert gpu.attributes["MultiProcessorCount"] > 0
    assert cp.cuda.runtime.getDeviceProperties(0)["name"] == b"stand-in"
    assert cp.zeros(3).device == gpu == cp.cuda.Device()
    start, end = cp.cuda.Event(), cp.cuda.Stream.null.record()
    with pytest.raises(CUDARuntimeError):
        cp.cuda.get_elapsed_time(start, end)
    start.record()
    assert cp.cuda.get_elapsed_time(end, start) >= 0


@pytest.mark.parametrize(
    "call",
    [
        lambda cp: cp.cuda.runtime.getDeviceCount(),
        lambda cp: cp.cuda.Device(),
        lambda cp: cp.cuda.Device(0).mem_info,
        lambda cp: cp.cuda.Stream(),
        lambda cp: cp.zeros(3),
        lambda cp: cp.empty(3),
        lambda cp: cp.asarray(np.ones(3)),
        lambda cp: cp.get_default_memory_pool().used_bytes(),
    ],
)
def test_without_a_gpu_cupy_imports_and_every_use_of_the_device_raises(call: Callable[[Any], Any]) -> None:
    with installed(available=False):
        import cupy

        assert not cupy.is_available()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="no CUDA-capable device"):
            call(cupy)


# Putting it in place, and taking it away.


def test_it_is_importable_inside_the_block_only() -> None:
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    with installed():
        import cupy
        import cupy.cuda.runtime
        import cupy.linalg
        from cupy.cuda import Device

        assert (cupy, cupy.cuda.Device) == (MODULES["cupy"], Device)
        assert importlib.import_module("cupyx") is MODULES["cupyx"]
        assert cupy.__version__ == api().cupy_version
        assert importlib.util.find_spec("cupy") is not None
    assert {name: module for name, module in sys.modules.items() if name.startswith("cupy")} == before


def test_a_cupy_that_was_there_comes_back_also_after_an_error() -> None:
    real = {"cupy": ModuleType("cupy"), "cupy.extra": ModuleType("cupy.extra")}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in real.items():
            patch.setitem(sys.modules, name, module)
        with pytest.raises(AttributeError), installed():
            sys.modules["cupy"].no_such_name()
        assert {name: sys.modules[name] for name in real} == real


def test_the_package_forgets_its_cuda_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, select = ModuleType("nanograd_gpt.backend"), ModuleType("nanograd_gpt.backend.select")
    cuda, gemm = ModuleType("nanograd_gpt.backend.cuda"), ModuleType("nanograd_gpt.backend.cuda.gemm")
    vars(backend)["cuda"] = cuda
    kernels = vars(select)["_KERNELS"] = {np.ndarray: "cpu", DeviceArray: cuda}
    for module in (backend, select, cuda, gemm):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    forget_cuda_backend()
    assert not [name for name in sys.modules if f"{name}.".startswith("nanograd_gpt.backend.cuda.")]
    assert not hasattr(backend, "cuda")
    assert list(kernels) == [np.ndarray]


def test_hooks_are_called_on_the_way_out() -> None:
    called: list[str] = []
    with installed(on_exit=[lambda: called.append("first"), lambda: called.append("second")]):
        assert called == []
    assert called == ["first", "second"]
