"""The environment of a run: versions, libraries, threads and machine, on which a result may depend."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from .backend.cpu.threads import n_threads, with_blas_threads

DECIDING = (
    "nanograd_gpt",
    "device",
    "precision",
    "ranks",
    "threads",
    "numpy",
    "blas",
    "blas_kernels",
    "cupy",
    "machine",
    "system",
)
MAX_SHOWN = 80  # characters of a value


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
        "blas_kernels": [i["architecture"] for i in _blas() if "architecture" in i],  # chosen by the processor
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def changed_since(before: Any, now: Mapping[str, Any]) -> list[str]:
    """List what has changed since an earlier environment and can change the last bits: "numpy 2.3.1, was 2.3.0".

    before: the earlier one, from a file; values that it lacks are not compared.
    """
    if not isinstance(before, Mapping):
        return []
    return [
        f"{name} {_shown(now[name])}, was {_shown(before[name])}"
        for name in DECIDING
        if None not in (before.get(name), now.get(name)) and _shown(before[name]) != _shown(now[name])
    ]


def _shown(value: Any) -> str:
    """A value of an environment as a short text; of BLAS, without its threads, which it takes from `threads`."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(str(value).partition(", ")[0] for value in values)[:MAX_SHOWN]


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
