"""The CUDA backend on the stand-in for CuPy, whose RawModule is the simulator; and the same on a GPU, marked `gpu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standin.either import simulator_or_gpu
from standin.record import Record

from nanograd_gpt.backend.select import to_device


@pytest.fixture(params=["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
def standin(request: pytest.FixtureRequest) -> Iterator[Record | None]:
    """The stand-in's record, or None where the real CuPy runs."""
    with simulator_or_gpu(request.param) as record:
        yield record


@pytest.fixture
def simulator(standin: Record | None) -> Record:
    """The stand-in's record; what only the simulator shows is skipped on a GPU."""
    if standin is None:
        pytest.skip("a GPU runs here, and only the simulator counts launches, runs planted bugs and finds races")
    return standin


@pytest.fixture
def on_gpu(standin: Record | None) -> Callable[..., Any]:
    """Copies of arrays on the device: one for one, a list for several."""

    def copied(*arrays: Any) -> Any:
        moved = [None if array is None else to_device(array.copy(), "cuda") for array in arrays]
        return moved[0] if len(arrays) == 1 else moved

    return copied
