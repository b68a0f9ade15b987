"""token_attribution is the slope of a token's log-probability as an earlier token's embedding is scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tape.small import IDS, B, T, model_of
from tape.untouched import unchanged

import nanograd_gpt as ng
from nanograd_gpt.errors import InputError
from nanograd_gpt.nn import functional as F


def log_probabilities(model: Any, scale: Any, position: int) -> Any:
    """Those of the tokens at a position (B,), where the embedding of each token is multiplied by scale (B, T)."""
    x = ng.Tensor(model.tok_emb.weight.data[IDS] * scale[..., None] + model.pos_emb.weight.data[:T])
    logits = model.out_head(model.final_norm(model.trf_blocks(x)))
    return F.log_softmax(logits).data[np.arange(B), position - 1, IDS[:, position]]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("position", [1, 3, T - 1])
def test_an_attribution_is_a_central_difference(position: int, tied: bool) -> None:
    model = model_of(tied_head=tied).to(dtype=np.float64).eval()
    attribution = ng.token_attribution(model, IDS, position)
    assert (attribution.shape, attribution.dtype) == ((B, T), np.float64)
    h = 1e-5
    with ng.no_grad():
        for t in range(T):
            up, down = (np.ones((B, T)) + sign * h * (np.arange(T) == t) for sign in (1, -1))
            slope = (log_probabilities(model, up, position) - log_probabilities(model, down, position)) / (2 * h)
            np.testing.assert_allclose(attribution[:, t], slope, rtol=1e-6, atol=1e-9)
    assert (attribution[:, :position] != 0).all()
    assert (attribution[:, position:] == 0).all()


@pytest.mark.parametrize("tied", [False, True])
def test_the_model_stays_as_it_was(tied: bool) -> None:
    with unchanged(drop_rate=0.3, tied_head=tied) as model:
        ng.token_attribution(model, IDS, 2)


def test_it_needs_no_graph_around_it_and_an_outer_tape_sees_it() -> None:
    model = model_of()
    expected = ng.token_attribution(model, IDS, 3)
    with ng.no_grad(), ng.record(values=True) as tape:
        np.testing.assert_array_equal(ng.token_attribution(model, IDS, 3), expected)
        assert not ng.is_grad_enabled()
    assert tape.backward_ms > 0
    assert tape["trf_blocks.0.residual"].grad.shape == (B, 3, 8)  # type: ignore[union-attr]  # not None


@pytest.mark.parametrize("position", [0, T, -1, 1.0, True, None])
def test_a_position_without_tokens_before_it_is_refused(position: Any) -> None:
    with pytest.raises(InputError, match=rf"position: {position} is not allowed; choose 1 .. 5, a token of 6"):
        ng.token_attribution(model_of(), IDS, position)


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match=r"ids: shape \(3, 1\) has no token with others before it"):
        ng.token_attribution(model_of(), IDS[:, :1], 1)
