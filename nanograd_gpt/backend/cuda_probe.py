"""A check that CUDA can be used, before anything is built; each broken installation has its own line.

CuPy's is_available() is False for a missing driver, an old one and a missing GPU alike, and True where CUDA's libraries
are missing: those are loaded by the first product and the first kernel.  So the driver is asked, and both are tried.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

OLDEST = 12  # major version of CUDA that an extra is for
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100  # cudaError_t
# the errors that carry a status, and the one for memory: cudaError_t of CuPy's, cublasStatus_t of CuPy's and of ours
OUT_OF_MEMORY = {"CUDARuntimeError": 2, "CUBLASError": 3, "CublasLtError": 3}


def cuda_problem() -> str | None:
    """The reason why CUDA cannot be used, with what to do about it; None if a product and a kernel worked."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return f"CuPy is not installed (pip install {_extras()}, to match the driver)"
        return _broken_import(error)
    except (ImportError, OSError) as error:
        return _broken_import(error)
    runtime = cupy.cuda.runtime
    return _driver_problem(runtime) or _gpu_problem(runtime) or _first_use_problem(cupy)


def _broken_import(error: Exception) -> str:
    """CuPy's own message is a page; its cause is the reason."""
    reason = _one_line(error.__cause__ or error)
    return f"CuPy is installed but cannot be imported: {reason} (pip install --force-reinstall {_extras()})"


def _driver_problem(runtime: Any) -> str | None:
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        return (
            "CuPy is installed but finds no NVIDIA driver (install the GPU's driver, until nvidia-smi lists the GPU; a "
            "container must be given it, as by docker run --gpus all)"
        )
    if OLDEST <= driver // 1000 < built // 1000:
        return (
            f"CuPy is built for CUDA {built // 1000}, and the driver is for CUDA {_version(driver)} (pip uninstall "
            f"cupy-cuda{built // 1000}x, then pip install {_extra(driver)}; or update the driver)"
        )
    if driver // 1000 < built // 1000:
        return _old_driver(runtime)
    return None


def _old_driver(runtime: Any) -> str:
    driver, built = _version(runtime.driverGetVersion()), _version(runtime.runtimeGetVersion())
    return f"the driver is too old: it is for CUDA {driver}, CuPy needs one for CUDA {built} (update the driver)"


def _gpu_problem(runtime: Any) -> str | None:
    try:
        if runtime.getDeviceCount():
            return None
    except runtime.CUDARuntimeError as error:
        if error.status == INSUFFICIENT_DRIVER:
            return _old_driver(runtime)
        if error.status != NO_DEVICE:
            return f"the driver fails: {_one_line(error)} (see nvidia-smi; a driver just updated needs a restart)"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}, which may hide it"
    return f"CuPy is installed but finds no GPU (nvidia-smi -L lists them{hidden})"


def _first_use_problem(cupy: ModuleType) -> str | None:
    """Try what the model will need: a kernel, a product by CuPy's cuBLAS, and one by our cuBLASLt."""
    for what, use in (("kernel", _use_kernel), ("product", _use_product)):
        try:
            use(cupy)
        except (
            Exception
        ) as error:  # CuPy's and the driver's errors have no common class but this; the message says which it was
            return _failure(cupy, what, error)
    return None


def _use_kernel(cupy: ModuleType) -> None:
    cupy.cuda.nvrtc.getVersion()  # a kernel may come from the disk, the next one needs the compiler
    ones = cupy.ones(2, dtype=cupy.float32)
    (ones + ones).get()  # waits, so that its failure is seen here


def _use_product(cupy: ModuleType) -> None:
    from .cuda.gemm import gemm

    ones, out = cupy.ones((2, 2), dtype=cupy.float32), cupy.empty((2, 2), dtype=cupy.float32)
    gemm(ones @ ones, ones, out)
    out.get()


def _failure(cupy: ModuleType, what: str, error: Exception) -> str:
    if is_out_of_memory(error):
        return (
            f"the GPU has no memory left{_free_of_total(cupy.cuda.runtime)} (nvidia-smi lists the programs that use it)"
        )
    if _is_missing_library(error):
        extra = _extra(cupy.cuda.runtime.runtimeGetVersion())
        return f"CUDA's libraries are missing: {_one_line(error)} (pip install {extra}, which brings them)"
    return f"the first {what} on the GPU fails: {type(error).__name__}: {_one_line(error)}"


def _is_missing_library(error: Exception) -> bool:
    """Whether a library or header of CUDA's was not found; cuda.pathfinder's error is a RuntimeError, as is CuPy's."""
    if isinstance(error, (ImportError, OSError)):
        return True
    names = {cls.__name__ for cls in type(error).__mro__}
    texts = "Failed to find CUDA headers", "cannot open source file"
    return bool(names & {"DynamicLibNotFoundError", "LibraryMissingError"}) or any(t in str(error) for t in texts)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the GPU's memory is used up: CuPy's OutOfMemoryError at an allocation, or a library's status."""
    cupy: Any = sys.modules.get("cupy")
    if cupy is None:
        return False
    if isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return True
    status = OUT_OF_MEMORY.get(type(error).__name__)
    return status is not None and getattr(error, "status", None) == status


def _free_of_total(runtime: Any) -> str:
    try:
        free, total = runtime.memGetInfo()
    except runtime.CUDARuntimeError:  # even the driver's own part did not fit
        return ""
    return f": {free / 2**20:,.0f} of {total / 2**20:,.0f} MiB are free"


def _version(number: int) -> str:
    """CUDA's version: '12.4' of 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _one_line(error: BaseException) -> str:
    """The first line of an error's message that says something, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0][:200].rstrip(".:") if lines else type(error).__name__


def _extras() -> str:
    package = _pip_name()
    return f"'{package}[cuda12]' or '{package}[cuda13]'"


def _extra(version: int) -> str:
    """The extra for a version of CUDA; a newer one than there is an extra for takes the newest."""
    return f"'{_pip_name()}[cuda{min(version // 1000, 13)}]'"


def _pip_name() -> str:
    """The package's name for pip: the checkout that it runs in or was installed from, or else its registry name."""
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import, as is the next
    from urllib.request import url2pathname

    checkout = Path(__file__).parents[2]
    if not (checkout / "pyproject.toml").is_file():
        try:
            origin = json.loads(distribution("nanograd-gpt").read_text("direct_url.json") or "{}")
        except PackageNotFoundError:
            return "nanograd-gpt"
        checkout = Path(url2pathname(origin.get("url", "").removeprefix("file://")))
        if "dir_info" not in origin or not checkout.is_dir():  # a wheel, a registry, or a checkout since deleted
            return "nanograd-gpt"
    return "." if checkout.resolve() == Path.cwd() else str(checkout)
