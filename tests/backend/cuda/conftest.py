"""The CUDA backend on the stand-in for CuPy, whose RawModule is the simulator: no GPU is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standin.cupy_standin import installed
from standin.record import Record

from nanograd_gpt.backend.select import to_device


@pytest.fixture(autouse=True)
def standin() -> Iterator[Record]:
    with installed() as record:
        yield record


@pytest.fixture
def on_gpu(standin: Record) -> Callable[..., Any]:
    """Copies of arrays on the device: one for one, a list for several."""

    def copied(*arrays: Any) -> Any:
        moved = [None if array is None else to_device(array.copy(), "cuda") for array in arrays]
        return moved[0] if len(arrays) == 1 else moved

    return copied
