"""The environment of a run: versions, libraries, threads and machine, on which a result may depend."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from .backend.cpu.threads import n_threads, with_blas_threads


def environment() -> dict[str, Any]:
    """The environment as a dictionary that JSON can encode."""
    blas = [f"{i['internal_api']} {i['version']}, {i['num_threads']} threads" for i in _blas()]
    return {
        "nanograd_gpt": own_version(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "cupy": getattr(sys.modules.get("cupy"), "__version__", None),
        "threads": n_threads(),
        "blas": blas,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def _blas() -> list[dict[str, Any]]:
    # under the lock, outside of any block that limits BLAS to one thread
    infos: list[dict[str, Any]] = with_blas_threads(threadpool_info)
    return [info for info in infos if info["user_api"] == "blas"]


def own_version() -> str | None:
    """The package's version; None if it is not installed but run from its source tree."""
    try:
        return version("nanograd-gpt")
    except PackageNotFoundError:
        return None
