"""PyTorch's own samples of its operations, run on ours: values, gradients, and what is refused.

Every sample that PyTorch keeps for an operation with a counterpart here (`OpInfo.reference_inputs`, with all of
`sample_inputs` among them, and `error_inputs`), in float64.  A sample that asks for what ours does not offer is passed
over for one of the reasons in NOT_OFFERED; there is no other way past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's own samples need the package expecttest")

# ruff: noqa: E402  # what is imported below needs torch: only once importorskip has found it
from oracle.opinfo_samples import INFO, each_part, samples_of
from oracle.pytorch_counterparts import ACCEPTED, NOT_OFFERED, OURS, NotOfferedError, only

from nanograd_gpt.tensor import Tensor

torch.set_num_threads(1)

TOLERANCE = 1e-12
# A gradient this much smaller than the largest is what larger numbers leave when they cancel, and is measured against
# the largest: of a saturated softmax, or of PyTorch's layer_norm of one channel, whose scale has a gradient of 0.
VANISHING = 0.1


# Running a sample on both


class Leaves:
    """A sample's tensors, as leaves on both sides: the same one wherever a sample has the same one."""

    def __init__(self) -> None:
        self.theirs: dict[int, Any] = {}
        self.ours: dict[int, Tensor] = {}

    def for_them(self, value: Any) -> Any:
        """The same arguments; of a view made without a graph, as some samples are, PyTorch gives no gradient."""
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return self.theirs.setdefault(id(value), value.detach().requires_grad_())
        return each_part(value, self.for_them)

    def for_us(self, value: Any) -> Any:
        """The same arguments: floats as Tensors, integers and bools as arrays."""
        if isinstance(value, torch.Tensor):
            array = value.detach().numpy()
            if not value.is_floating_point():
                return array
            return self.ours.setdefault(id(value), Tensor(array, requires_grad=True))
        return each_part(value, self.for_us)


def outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]


def array_of(result: Any) -> npt.NDArray[Any]:
    array = result.data if isinstance(result, Tensor) else result
    assert isinstance(array, np.ndarray), f"{type(result).__name__} is not an array"
    return array


def assert_same(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], what: str, least: float = 0.0) -> None:
    """The same shape, the same nan and infinities, and everything else to within rounding of the whole, or of least."""
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape} instead of {theirs.shape}"
    if theirs.dtype == bool:
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite], err_msg=what)
    size = max(length(theirs[finite]), least)
    difference = length(ours[finite] - theirs[finite])
    assert difference <= TOLERANCE * size, f"{what}: {difference:.1e} of {size:.1e}\n{ours}\n{theirs}"


def length(a: npt.NDArray[Any]) -> float:
    """The Euclidean norm, of numbers as large as may be."""
    largest = float(np.abs(a).max(initial=0))
    return largest * float(np.linalg.norm(a / largest)) if largest else 0.0


def compare(info: Any, function: Callable[..., Any], sample: Any) -> None:
    """Run a sample on both; compare the results, and the gradients of a random weighting of them."""
    leaves, given = Leaves(), [sample.input, *sample.args]
    only(**{"plain self": isinstance(sample.input, float | int) and info.name.startswith("__r")})
    arguments, options = leaves.for_us(given), leaves.for_us(sample.kwargs)
    only(**{"plain numbers": not any(isinstance(a, Tensor | np.ndarray | list) for a in arguments)})
    with np.errstate(all="ignore"):  # NumPy warns where PyTorch is silent
        ours = outputs(function(*arguments, **options))
        theirs = outputs(info.op(*leaves.for_them(given), **leaves.for_them(sample.kwargs)))
        assert len(ours) == len(theirs)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(array_of(a), b.detach().numpy(), f"result {i}")
        if not any(b.requires_grad for b in theirs):
            return
        rng = np.random.default_rng(0)
        weights = [rng.standard_normal(tuple(b.shape)) for b in theirs]
        sum(((a * w).sum() for a, w in zip(ours, weights, strict=True)), Tensor(0.0)).backward()
        sources = list(leaves.theirs.values())
        their_weights = [torch.from_numpy(w).to(b.dtype) for w, b in zip(weights, theirs, strict=True)]
        expected = torch.autograd.grad(theirs, sources, their_weights, allow_unused=True)
    # a gradient that is nowhere used is None to one and 0 to the other
    gradients = [np.zeros(tuple(t.shape)) if g is None else g.numpy() for t, g in zip(sources, expected, strict=True)]
    least = VANISHING * max((length(g[np.isfinite(g)]) for g in gradients), default=0.0)
    for i, (t, g) in enumerate(zip(leaves.ours.values(), gradients, strict=True)):
        assert_same(np.zeros(t.shape) if t.grad is None else t.grad, g, f"gradient {i}", least)


@pytest.mark.parametrize("name", OURS)
def test_pytorchs_own_samples_give_pytorchs_values_and_gradients(name: str) -> None:
    compared, passed_over = 0, Counter[str]()
    for info, sample in samples_of(name):
        try:
            compare(info, OURS[name], sample)
        except NotOfferedError as reason:
            passed_over[NOT_OFFERED[str(reason)]] += 1
            continue
        except Exception as error:
            error.add_note(f"sample {compared}: {sample.summary()}")
            raise
        compared += 1
    assert compared > 0, f"none of the samples is offered: {passed_over}"


@pytest.mark.parametrize("name", [name for name in OURS if any(info.error_inputs_func for info in INFO[name])])
def test_what_pytorch_refuses_is_refused(name: str) -> None:
    for refused in (r for info in INFO[name] if info.error_inputs_func for r in info.error_inputs("cpu")):
        sample, leaves = refused.sample_input, Leaves()
        if isinstance(sample.input, float | int):
            continue  # PyTorch refuses it since a number has no method; ours are Python's operators
        try:
            with np.errstate(all="ignore"):
                result = OURS[name](*leaves.for_us([sample.input, *sample.args]), **leaves.for_us(sample.kwargs))
        except (ValueError, TypeError, IndexError, AttributeError, NotOfferedError):
            continue
        if (name, refused.error_regex) not in ACCEPTED:
            pytest.fail(f"{result} for {sample.summary()}, where PyTorch says: {refused.error_regex}")
