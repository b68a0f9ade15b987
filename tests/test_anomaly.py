"""Anomaly detection names the operation that first made a number nan or infinite, and who called it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import nanograd_gpt as ng
from nanograd_gpt import NonFiniteError, Tensor, detect_anomaly

CONFIG = {"vocab_size": 20, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}
IDS = np.arange(8).reshape(1, 8)


def line_of(error: pytest.ExceptionInfo[NonFiniteError]) -> str:
    return re.search(r"called at (\S+)$", str(error.value)).group(1)  # type: ignore[union-attr]  # every message ends so


@np.errstate(all="ignore")
def test_the_operation_its_shapes_and_the_calling_line_are_named() -> None:
    x = Tensor([[1.0, 0.0, -1.0]])
    with (
        detect_anomaly(),
        pytest.raises(NonFiniteError, match=r"Log: 2 of the 3 numbers of its result \(1, 3\)") as error,
    ):
        x.log()
    assert re.fullmatch(r".*test_anomaly\.py:\d+", line_of(error))


@np.errstate(all="ignore")
def test_what_comes_of_a_number_that_was_not_finite_before_is_not_blamed() -> None:
    with detect_anomaly():
        assert np.isnan((Tensor([np.nan]) * 2).item())
        assert (Tensor([1.0]).masked_fill(np.array([True]), -np.inf)).item() == -np.inf
        assert np.isnan(Tensor([1, 2]).data.sum() * np.nan)


@np.errstate(all="ignore")
def test_a_backward_is_named_with_the_line_of_its_forward() -> None:
    x = Tensor([0.0, 4.0], requires_grad=True)
    with detect_anomaly():
        y = (x**0.5).sum()
        with pytest.raises(
            NonFiniteError, match=r"Pow\.backward: 1 of the 2 numbers of the gradient of input 0"
        ) as error:
            y.backward()
    assert re.fullmatch(r".*test_anomaly\.py:\d+", line_of(error))


@pytest.mark.parametrize("where", ["trf_blocks.0.ff.layers.0.weight", "tok_emb.weight"])
@np.errstate(all="ignore")
def test_in_a_gpt_the_layer_that_overflows_is_found(where: str) -> None:
    model = ng.GPTModel(CONFIG, rng=ng.Generator(1))
    weights: dict[str, Any] = dict(model.named_parameters())
    weights[where].data[...] = 3e38
    with detect_anomaly(), pytest.raises(NonFiniteError) as error:
        model.loss(IDS, IDS)
    assert line_of(error).startswith("gpt/model.py:") or line_of(error).startswith("nn/layers.py:")


def test_outside_the_block_nothing_is_checked_and_finite_steps_pass() -> None:
    model = ng.GPTModel(CONFIG, rng=ng.Generator(1))
    with detect_anomaly():
        model.loss(IDS, IDS).backward()
    with np.errstate(all="ignore"):
        assert np.isinf(Tensor([0.0]).log().item())
