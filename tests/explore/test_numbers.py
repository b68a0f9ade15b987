"""The numbers of the page are the library's."""

from __future__ import annotations

import numpy as np
import pytest
from explore.pages import data_of, page_of
from tape.untouched import unchanged

import nanograd_gpt as ng
from nanograd_gpt.explore.gradient import loss_gradient
from nanograd_gpt.explore.numbers import numbers_of
from nanograd_gpt.explore.steps import forward_steps, step_names

NONE = np.empty(0, dtype=np.int64)


def test_attention_lens_and_chances_are_those_of_the_library() -> None:
    model, ids, page = page_of()
    data, T = data_of(page), len(ids)
    weights = ng.attention_weights(model, ids[None])[:, 0]
    np.testing.assert_allclose(data["attention"], weights[..., *np.tril_indices(T)], atol=1e-7)
    logits = ng.logit_lens(model, ids[None])[:, 0].astype(np.float64)
    chances = np.exp(logits - logits.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    tokens = data["lens"]["tokens"]
    np.testing.assert_allclose(data["lens"]["probabilities"], np.take_along_axis(chances, tokens, -1), rtol=1e-6)
    np.testing.assert_array_equal(tokens[..., 0], logits.argmax(-1))
    explained = ng.explain_next(model, ids, top=8)
    for t, position in enumerate(explained[:-1]):
        assert position.actual is not None
        assert data["next"]["probability"][t] == pytest.approx(position.actual.probability, rel=1e-5)
        assert data["next"]["rank"][t] == position.actual.rank
        assert tokens[-1, t].tolist() == [c.token for c in position.candidates]


def test_attribution_is_that_of_the_token_that_came_next_and_of_the_likeliest_at_the_end() -> None:
    model, ids, page = page_of()
    data, T = data_of(page), len(ids)
    rows = np.split(data["attribution"], np.cumsum(np.arange(1, T)))
    for t in range(T - 1):
        np.testing.assert_allclose(rows[t], ng.token_attribution(model, ids[None], t + 1)[0, : t + 1], atol=1e-6)
    assert data["likeliest"] == ng.logit_lens(model, ids[None])[-1, 0, -1].argmax()
    more = np.append(ids, data["likeliest"])[None]
    np.testing.assert_allclose(rows[-1], ng.token_attribution(model, more, T)[0, :T], atol=1e-6)


def test_the_steps_add_up_to_the_residual_stream() -> None:
    model, ids, _ = page_of()
    vectors = forward_steps(model, ids).vectors
    assert [*vectors] == step_names(3)
    stream = vectors["tok_emb"] + vectors["pos_emb"]
    np.testing.assert_array_equal(vectors["drop_emb"], stream)
    with ng.no_grad(), ng.record(values=["residual"]) as tape:
        model.eval().hidden_states(ids[None])
    for i in range(3):
        stream = stream + vectors[f"trf_blocks.{i}.att"] + vectors[f"trf_blocks.{i}.ff"]
        np.testing.assert_allclose(vectors[f"trf_blocks.{i}"], stream, atol=1e-5)
        np.testing.assert_array_equal(vectors[f"trf_blocks.{i}"], tape[f"trf_blocks.{i}.residual"].value[0])
        normed = model.trf_blocks[i].norm1(ng.Tensor(vectors[f"trf_blocks.{i - 1}" if i else "drop_emb"])).data
        np.testing.assert_allclose(vectors[f"trf_blocks.{i}.norm1"], normed, atol=1e-6)


def test_the_gradient_of_the_loss_is_that_of_an_ordinary_backward() -> None:
    model, ids, page = page_of()
    data = data_of(page)
    model.eval()
    with ng.record(values=["residual"]) as tape:
        loss = model.loss(ids[None, :-1], ids[None, 1:])
        loss.backward()
    assert data["gradient"]["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for i, name in enumerate(["drop_emb", *(f"trf_blocks.{i}" for i in range(3))]):
        lengths = np.linalg.norm(tape[f"{name}.residual"].grad[0], axis=-1)
        np.testing.assert_allclose(data["gradient"]["lengths"][i], lengths, rtol=1e-4, atol=1e-9)


def test_the_slope_of_a_block_equals_a_central_difference() -> None:
    """The difference is that of the loss, as what the last block adds at one position is scaled."""
    model, ids, _ = page_of()
    model.to(dtype=np.float64).eval()
    found = loss_gradient(model, ids)
    t, N = 4, len(ids) - 1

    def loss(scale: float) -> float:
        stream = found.stream[-1].copy()
        stream[t] = found.stream[-2][t] + scale * (found.stream[-1][t] - found.stream[-2][t])
        with ng.no_grad():
            logits = model.out_head(model.final_norm(ng.Tensor(stream)))
            return float(-ng.functional.log_softmax(logits).data[np.arange(N), ids[1:]].mean())

    assert found.slopes()[-1, t] == pytest.approx((loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5, rel=1e-6)


def test_the_model_stays_as_it_was() -> None:
    with unchanged(drop_rate=0.3) as model:
        numbers = numbers_of(model, np.arange(5), NONE)
    assert numbers.gradient is not None


def test_one_token_has_no_loss_and_a_full_context_no_attribution_of_a_next_token() -> None:
    _, _, page = page_of("t")
    data = data_of(page)
    assert data["gradient"] is None
    assert data["attribution"].shape == (1,)
    assert np.isfinite(data["attribution"]).all()
    full = data_of(page_of("the sun rose over the sea", context_length=5)[2])
    T = len(full["ids"])
    assert T == 5
    assert np.isnan(full["attribution"][-T:]).all()
    assert np.isfinite(full["attribution"][:-T]).all()


def test_padding_is_neither_listed_nor_sampled_nor_likeliest() -> None:
    model, ids, page = page_of(padding=40)
    data, V = data_of(page), model.config.vocab_size
    assert data["padding"] == 40
    assert data["candidates"]["ids"].tolist() == list(range(V - 40))
    assert data["lens"]["tokens"].max() < V - 40
    assert "40 ids of the vocabulary without a token" in page
    with ng.no_grad():
        logits = model.eval()(ids[None]).data[0, :, : V - 40]
    np.testing.assert_allclose(data["candidates"]["logits"], logits, atol=1e-5)


def test_weights_that_are_not_finite_are_refused() -> None:
    model, ids, _ = page_of()
    model.final_norm.scale.data[3] = np.nan
    with pytest.raises(ng.RunError, match="explore: the model's logits are not finite"):
        numbers_of(model, ids, NONE)
