"""The stand-in, in place of CuPy for one test."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from standin.cupy_standin import installed
from standin.record import Record


@pytest.fixture
def standin() -> Iterator[Record]:
    with installed() as record:
        yield record


@pytest.fixture
def cp(standin: Record) -> ModuleType:
    return importlib.import_module("cupy")


@pytest.fixture
def x(cp: ModuleType) -> Any:
    """0 .. 11 as (3, 4) float32"""
    return cp.arange(12, dtype=cp.float32).reshape(3, 4)
