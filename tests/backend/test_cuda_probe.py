"""Each installation in which CUDA cannot be used has a line of its own, found before anything is built."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import pytest
from standin.cupy_standin import installed
from standin.device import OutOfMemoryError
from standin.record import CUDARuntimeError

from nanograd_gpt.backend import cuda_probe
from nanograd_gpt.backend.cuda_probe import cuda_problem, is_out_of_memory
from nanograd_gpt.backend.select import gpu_memory, resolve_device
from nanograd_gpt.errors import InputError

PAGE = """
================================================================
Failed to import CuPy.

Original error:
  ImportError: libcudart.so.12: cannot open shared object file
================================================================
"""


class DynamicLibNotFoundError(RuntimeError):
    """cuda.pathfinder's error, by its name."""


class CUBLASError(RuntimeError):
    """The error of cupy_backends.cuda.libs.cublas, which keeps the status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__({1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED"}[status])


class CompileException(Exception):  # noqa: N818  # CuPy's name
    """The error of cupy.cuda.compiler."""


@pytest.fixture
def broken():
    """The record of an installed CuPy, to break it."""
    with installed() as record:
        yield record


@pytest.fixture(autouse=True)
def short_name(monkeypatch):
    monkeypatch.setattr(cuda_probe, "_pip_name", lambda: "P")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def reason() -> str:
    """The line that --device cuda ends in; the CPU is taken where any device will do."""
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError) as error:
        resolve_device("cuda")
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("device: 'cuda' cannot be used: ")
    assert text.endswith("; or choose 'cpu'")
    return text.removeprefix("device: 'cuda' cannot be used: ").removesuffix("; or choose 'cpu'")


def test_a_working_installation_has_no_problem(broken):
    assert cuda_problem() is None
    assert resolve_device("cuda") == resolve_device("auto") == "cuda"
    assert len(broken.cublaslt.products) == 3, "the product that the model needs is tried, once each time"


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert reason() == "CuPy is not installed (pip install 'P[cuda12]' or 'P[cuda13]', to match the driver)"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            f"raise ImportError({PAGE!r}) from ImportError('libcudart.so.12: cannot open')",
            "libcudart.so.12: cannot open",
        ),
        ("import numpy_of_another_age", "No module named 'numpy_of_another_age'"),
        ("raise OSError('[WinError 126] The specified module could not be found')", "[WinError 126] The specified"),
    ],
    ids=["library", "dependency", "Windows"],
)
def test_a_cupy_that_cannot_be_imported(tmp_path, monkeypatch, source, why):
    (tmp_path / "cupy.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    line = reason()
    assert line.startswith(f"CuPy is installed but cannot be imported: {why}")
    assert line.endswith("(pip install --force-reinstall 'P[cuda12]' or 'P[cuda13]')")


def test_no_driver(broken):
    """Version 0, and getDeviceCount() says that the driver is insufficient: so CuPy 14.2 where there is none."""
    broken.driver, broken.status = 0, 35
    assert reason().startswith("CuPy is installed but finds no NVIDIA driver (install the GPU's driver")


def test_a_wheel_for_a_newer_cuda_than_the_drivers(broken):
    broken.driver, broken.runtime, broken.status = 12040, 13000, 35
    assert reason() == (
        "CuPy is built for CUDA 13, and the driver is for CUDA 12.4 (pip uninstall cupy-cuda13x, then pip install "
        "'P[cuda12]'; or update the driver)"
    )


def test_a_driver_that_is_newer_than_the_wheel_is_right(broken):
    broken.driver, broken.runtime = 13000, 12090
    assert cuda_problem() is None


@pytest.mark.parametrize("driver", [11040, 12000])
def test_a_driver_too_old_for_every_wheel_or_for_this_one(broken, driver):
    broken.driver, broken.status = driver, 35
    version = f"{driver // 1000}.{driver % 1000 // 10}"
    expected = f"the driver is too old: it is for CUDA {version}, CuPy needs one for CUDA 12.9 (update the driver)"
    assert reason() == expected


@pytest.mark.parametrize("visible", [None, "", "7"])
def test_no_gpu(broken, monkeypatch, visible):
    broken.status = 100
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line = reason()
    assert line.startswith("CuPy is installed but finds no GPU (nvidia-smi -L lists them")
    assert (f"; CUDA_VISIBLE_DEVICES is {visible!r}, which may hide it" in line) is (visible is not None)


def test_a_driver_that_counts_no_device(broken, monkeypatch):
    monkeypatch.setattr(importlib.import_module("cupy").cuda.runtime, "getDeviceCount", lambda: 0)
    assert reason().startswith("CuPy is installed but finds no GPU")


def test_a_driver_that_fails(broken):
    broken.status = 803
    assert reason().startswith("the driver fails: cudaErrorSystemDriverMismatch: system has unsupported display driver")


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("product", ImportError('Failure finding "libcublas.so": No such file: libcublas.so*\n listdir(...)')),
        ("product", ImportError("libcublas.so.12: cannot open shared object file: No such file or directory")),
        ("compiler", DynamicLibNotFoundError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file')),
        ("compiler", OSError("libnvrtc.so.12: cannot open shared object file")),
        ("kernel", RuntimeError("Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip ...).")),
        ("kernel", CompileException('cupy/float16.cuh(19): error: cannot open source file "cuda_fp16.h"')),
    ],
    ids=["pathfinder, cublas", "linker, cublas", "pathfinder, nvrtc", "linker, nvrtc", "headers", "a header"],
)
@pytest.mark.parametrize("major", [12, 13])
def test_missing_libraries_are_brought_by_the_extra_for_cupys_cuda(broken, part, error, major):
    broken.driver = broken.runtime = 1000 * major
    broken.failing[part] = error
    line = reason()
    assert line.startswith(f"CUDA's libraries are missing: {str(error).splitlines()[0][:30]}")
    assert line.endswith(f"(pip install 'P[cuda{major}]', which brings them)")


def test_a_missing_ml_dtypes(broken, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("nanograd_gpt.backend.cuda.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert re.fullmatch(
        r"CUDA's libraries are missing: .*ml_dtypes.* \(pip install 'P\[cuda12\]', which brings them\)", reason()
    )


def test_a_missing_cublaslt(broken, monkeypatch):
    binding = importlib.import_module("nanograd_gpt.backend.cuda.cublaslt")

    def load() -> None:
        raise binding.LibraryMissingError("cuBLASLt cannot be loaded: no such file")

    monkeypatch.setattr(binding, "load", load)
    assert reason() == (
        "CUDA's libraries are missing: cuBLASLt cannot be loaded: no such file (pip install 'P[cuda12]', which brings "
        "them)"
    )


@pytest.mark.parametrize("part", ["kernel", "product"])
@pytest.mark.parametrize(
    "error", [OutOfMemoryError(512, 1024), CUDARuntimeError(2), CUBLASError(3)], ids=lambda error: type(error).__name__
)
def test_a_gpu_whose_memory_is_taken(broken, part, error):
    broken.failing[part] = error
    line = r"the GPU has no memory left: [\d,]+ of 81,920 MiB are free \(nvidia-smi lists the programs that use it\)"
    assert re.fullmatch(line, reason())


def test_a_gpu_that_is_too_full_for_the_workspace(broken):
    broken.total_memory = 1 << 20
    assert reason().startswith("the GPU has no memory left: ")


def test_a_gpu_that_cannot_even_say_what_is_free(broken, monkeypatch):
    def memory_info() -> None:
        raise CUDARuntimeError(2)

    broken.failing["kernel"] = CUDARuntimeError(2)
    monkeypatch.setattr(importlib.import_module("cupy").cuda.runtime, "memGetInfo", memory_info)
    assert reason() == "the GPU has no memory left (nvidia-smi lists the programs that use it)"


@pytest.mark.parametrize(
    ("part", "error", "says"),
    [
        (
            "kernel",
            CompileException("error: invalid value for --gpu-architecture (-arch)"),
            "the first kernel on the GPU",
        ),
        ("product", CUBLASError(1), "the first product on the GPU fails: CUBLASError: CUBLAS_STATUS_NOT_INITIALIZED"),
        ("product", RuntimeError(""), "the first product on the GPU fails: RuntimeError: RuntimeError"),
    ],
)
def test_any_other_failure_says_what_failed(broken, part, error, says):
    broken.failing[part] = error
    assert reason().startswith(says)


def test_a_failure_of_cublaslt_says_its_status(broken):
    broken.cublaslt.fails_with = 14
    assert reason().startswith("the first product on the GPU fails: CublasLtError: cuBLASLt 13.1.0, ")
    broken.cublaslt.fails_with = 3
    assert reason().startswith("the GPU has no memory left")


def test_only_the_gpus_lack_of_memory_is_the_gpus(broken):
    assert is_out_of_memory(OutOfMemoryError(512, 1024))
    assert is_out_of_memory(CUDARuntimeError(2))
    assert not is_out_of_memory(CUDARuntimeError(100))
    assert not is_out_of_memory(MemoryError("the host's"))
    assert not is_out_of_memory(ValueError("2"))


def test_without_cupy_no_lack_of_memory_is_the_gpus(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert not is_out_of_memory(CUDARuntimeError(2))


def test_the_memory_for_arrays_is_what_is_free_and_what_is_held(broken):
    cp: ModuleType = importlib.import_module("cupy")
    broken.total_memory = 1 << 30
    before = gpu_memory()
    held = cp.zeros(1 << 20)
    assert held.nbytes > 0
    assert before == gpu_memory() == 1 << 30
    assert cuda_problem() is None
    assert gpu_memory() == (1 << 30) - (32 << 20), "the workspace of the products is not for arrays"
