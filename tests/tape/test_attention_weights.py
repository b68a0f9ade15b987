"""attention_weights is the plain formula, head by head, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
from tape.small import IDS, B, H, L, T, model_of, normed, plain_weights
from tape.untouched import unchanged

import nanograd_gpt as ng


def test_each_row_sums_to_one_and_later_tokens_have_no_weight() -> None:
    weights = ng.attention_weights(model_of(), IDS)
    assert (weights.shape, weights.dtype) == ((L, B, H, T, T), np.float32)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert (np.triu(weights, k=1) == 0).all()
    assert (weights[..., np.tri(T, dtype=bool)] > 0).all()


@pytest.mark.parametrize("drop_rate", [0.0, 0.5])
def test_the_weights_are_those_of_the_plain_formula(drop_rate: float) -> None:
    model = model_of(drop_rate)
    with ng.no_grad():
        x = model.tok_emb(IDS) + model.pos_emb(np.arange(T))
        for block, weights in zip(model.trf_blocks, ng.attention_weights(model, IDS), strict=True):
            np.testing.assert_allclose(weights, plain_weights(normed(x.data, block.norm1), block.att), atol=1e-6)
            x = block.eval()(x)


@pytest.mark.parametrize("T", [64, 100, 150])
def test_texts_longer_than_the_kernels_block_of_queries(T: int) -> None:
    model = model_of(context_length=150)
    ids = np.random.default_rng(T).integers(0, 23, (1, T))
    weights = ng.attention_weights(model, ids)
    x = model.tok_emb.weight.data[ids] + model.pos_emb.weight.data[:T]
    block = model.trf_blocks[0]
    np.testing.assert_allclose(weights[0], plain_weights(normed(x, block.norm1), block.att), atol=1e-6)


def test_the_model_stays_as_it_was() -> None:
    with unchanged(drop_rate=0.3) as model:
        ng.attention_weights(model, IDS)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (IDS[0], r"ids: expected integers of shape \(B, T\), got int64 of shape \(6,\)"),
        (np.tile(IDS, 2), "ids: 12 tokens are more than context_length = 6"),
        ([[1, 99]], "ids: 1 .. 99 reach outside the vocabulary, 0 .. 22"),
        ([[0.5, 1.0]], r"ids: expected integers of shape \(B, T\), got float64 of shape \(1, 2\)"),
        (np.zeros((0, 3), int), r"ids: expected at least one token, got shape \(0, 3\)"),
    ],
)
def test_what_the_model_refuses_is_refused_here(ids: object, words: str) -> None:
    model = model_of()
    for look in (ng.attention_weights, ng.logit_lens, lambda *given: ng.token_attribution(*given, 1)):
        with pytest.raises(ValueError, match=words):
            look(model, ids)
