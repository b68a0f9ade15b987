"""run_on_both() accepts equal results, names differences, and reports where the host waited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from standin.both import on_device, run_on_both
from standin.record import Record, deeds

from nanograd_gpt.backend.select import to_host
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

X = np.array([[0.5, -1.0, 2.0], [3.0, 0.25, -2.0]])


def on_the_device_only(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: change(x) if x.device == "cuda" else x * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 2.000001, "output 0: relative error 5.0e-07"),
        (lambda x: x + x.detach(), "gradient 0: relative error 5.0e-01"),
        (lambda x: Tensor((x * 2).data), "gradient 0 is missing on the device only"),
        (lambda x: (x * 2).reshape(3, 2), "output 0: not the same shape or dtype"),
        (lambda x: Tensor((x * 2).data.astype(np.float32)), "output 0: not the same shape or dtype"),
        (lambda x: x * 2 + F.where(x > 2.5, np.inf, 0.0), "output 0: "),
    ],
)
@pytest.mark.usefixtures("standin")
def test_what_differs_is_named(change: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_on_both(on_the_device_only(change), (X,))


@pytest.mark.usefixtures("standin")
def test_arguments_of_every_kind_arrive_and_several_results_are_compared() -> None:
    seen: list[Any] = []

    def function(x: Tensor, twice: list[Tensor], ids: Any, number: float, *, mask: Any, name: str) -> Any:
        seen.append((x is twice[0], x.requires_grad, type(ids).__module__, type(mask).__module__, number, name))
        return [F.where(mask, x, number), (twice[0] * twice[1])[ids], x > 0]

    mask, ids, both = X > 0, np.array([1, 1]), X.copy()
    assert run_on_both(function, (both, [both, X], ids, 2.0), {"mask": mask, "name": "n"}) == []
    assert seen == [(True, True, library, library, 2.0, "n") for library in ("numpy", "cupy")]


def test_where_the_host_waits_is_returned_without_what_the_comparison_reads(standin: Record) -> None:
    assert deeds(run_on_both(lambda x: x * float(x.sum()), (X,))) == ["item"]
    assert run_on_both(lambda x: x * 2, (X,)) == []


@pytest.mark.parametrize("layout", [X, X.T, X[:, ::-1], X[::2, 1:], np.broadcast_to(X[:1], X.shape), np.array(3.0)])
@pytest.mark.usefixtures("standin")
def test_an_array_that_is_strided_is_strided_on_the_device_too(layout: Any) -> None:
    there = on_device(layout, "cuda")
    np.testing.assert_array_equal(to_host(there), layout)
    assert there.flags.c_contiguous == layout.flags.c_contiguous
    assert (0 in there.strides) == (0 in layout.strides)
    assert run_on_both(lambda x: x.exp(), (layout,)) == []
