"""PyTorch's own samples of its operations, on device arrays: the CPU's values and gradients, and nothing is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from standin.both import run_on_both
from standin.cupy_standin import installed

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's own samples need the package expecttest")

# ruff: noqa: E402  # what is imported below needs torch: only once importorskip has found it
from oracle.opinfo_samples import each_part, samples_of
from oracle.pytorch_counterparts import OURS, NotOfferedError, only

WAITS = {"__getitem__": "a mask says on the device alone how many elements it takes"}


def host_arrays(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else each_part(value, host_arrays)


def run(function: Callable[..., Any], sample: Any) -> list[str]:
    arguments, options = host_arrays([sample.input, *sample.args]), host_arrays(sample.kwargs)
    only(**{"plain numbers": not any(isinstance(a, np.ndarray | list) for a in arguments)})
    with np.errstate(all="ignore"):
        return run_on_both(function, arguments, options, tolerance=1e-12)


@pytest.mark.parametrize("name", OURS)
def test_pytorchs_own_samples_run_on_the_device_without_waiting(name: str) -> None:
    compared = 0
    with installed():
        for _, sample in samples_of(name):
            try:
                waits = run(OURS[name], sample)
            except NotOfferedError:
                continue
            except Exception as error:
                error.add_note(f"sample {compared}: {sample.summary()}")
                raise
            assert not waits or name in WAITS, f"{sample.summary()} waits: {waits}"
            compared += 1
    assert compared > 0
