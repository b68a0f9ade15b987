"""GPTModel: refused ids, logits, causality, and dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

from .tiny import TINY, ids_of, one_line

# --- what ids the model refuses


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros(4, dtype=np.int64), "ids: expected integers of shape (B, T), got int64 of shape (4,)"),
        (np.zeros((1, 2, 2), dtype=np.int64), "ids: expected integers of shape (B, T), got int64 of shape (1, 2, 2)"),
        (np.zeros((1, 2)), "ids: expected integers of shape (B, T), got float64 of shape (1, 2)"),
        (np.zeros((1, 2), dtype=bool), "ids: expected integers of shape (B, T), got bool of shape (1, 2)"),
        (np.zeros((1, 7), dtype=np.int64), "ids: 7 tokens are more than context_length = 6"),
        (np.array([[0, 23]]), "ids: 0 .. 23 reach outside the vocabulary, 0 .. 22"),
        (np.array([[-1, 3]]), "ids: -1 .. 3 reach outside the vocabulary, 0 .. 22"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY)(ids)
    assert one_line(error) == message


@pytest.mark.parametrize("shape", [(1, 0), (0, 3)])
def test_the_loss_of_no_tokens_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        GPTModel(TINY).loss(ids_of(shape), ids_of(shape))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint16, np.int64])
def test_ids_of_any_integer_dtype_give_the_same_logits(dtype: Any) -> None:
    model, ids = GPTModel(TINY), ids_of((2, 5))
    np.testing.assert_array_equal(model(ids.astype(dtype)).data, model(ids).data)


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY).loss(ids_of((2, 5)), ids_of((2, 4)))
    assert one_line(error) == "targets: shape (2, 4) differs from the ids' (2, 5)"


@pytest.mark.parametrize("bad", [-1, 23, -100])
def test_targets_outside_the_vocabulary_are_refused(bad: int) -> None:
    ids = ids_of((2, 5))
    targets = ids.copy()
    targets[1, 2] = bad
    with pytest.raises(InputError, match="outside the vocabulary"):
        GPTModel(TINY).loss(ids, targets)


# --- what it computes


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 4)])
def test_logits_have_a_row_of_the_vocabulary_for_each_token(shape: tuple[int, int]) -> None:
    logits = GPTModel(TINY)(ids_of(shape))
    assert logits.shape == (*shape, TINY.vocab_size)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_later_token_changes_no_bit_of_earlier_logits(dtype: Any) -> None:
    config = replace(TINY, context_length=16, qkv_bias=True)
    model = GPTModel(config).to(dtype=dtype)
    ids = ids_of((2, 16), config)
    before = model(ids).data
    for t in range(16):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % config.vocab_size
        after = model(changed).data
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


def test_an_earlier_token_changes_all_later_logits() -> None:
    model, ids = GPTModel(TINY).to(dtype=np.float64), ids_of((1, 6))
    changed = ids.copy()
    changed[0, 0] = (changed[0, 0] + 1) % TINY.vocab_size
    assert (model(ids).data != model(changed).data).any(axis=-1).all()


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, ids = GPTModel(TINY), ids_of((3, 6))
    before = model(ids).data
    ids[1] = (ids[1] + 1) % TINY.vocab_size
    after = model(ids).data
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).any()


def test_a_tokens_place_changes_its_logits() -> None:
    logits = GPTModel(TINY)(np.full((1, 6), 3)).data[0]
    assert len(np.unique(logits[:, 0])) == 6


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 6)])
def test_loss_is_the_cross_entropy_of_the_logits_and_so_are_its_gradients(shape: tuple[int, int]) -> None:
    model, ids, targets = GPTModel(TINY).to(dtype=np.float64), ids_of(shape), ids_of(shape, seed=1)
    losses, gradients = [], []
    for loss in (model.loss(ids, targets), F.cross_entropy(model(ids).flatten(0, 1), targets.ravel())):
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters()])
        for p in model.parameters():
            p.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    scale = max(np.linalg.norm(g) for g in gradients[1])
    assert max(np.linalg.norm(a - b) for a, b in zip(*gradients, strict=True)) < 1e-13 * scale


def test_loss_over_more_tokens_than_one_chunk_is_still_the_cross_entropy_of_the_logits() -> None:
    config = GPTConfig(vocab_size=50257, context_length=50, emb_dim=2, n_heads=1, n_layers=1, drop_rate=0.0)
    model = GPTModel(config).to(dtype=np.float64)  # 83 rows of this vocabulary make a chunk
    ids, targets = ids_of((2, 50), config), ids_of((2, 50), config, seed=1)
    loss = model.loss(ids, targets)
    loss.backward()
    logits = model(ids).data.reshape(100, -1)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    rows = np.arange(100), targets.ravel()
    assert loss.item() == pytest.approx(-np.log(probabilities[rows]).mean(), rel=1e-13)
    probabilities[rows] -= 1
    expected = probabilities.T @ model.hidden_states(ids).data.reshape(100, -1) / 100
    assert np.linalg.norm(model.out_head.weight.grad - expected) < 1e-13 * np.linalg.norm(expected)


def test_every_parameter_gets_a_gradient() -> None:
    model = GPTModel(TINY)
    model.loss(ids_of((2, 6)), ids_of((2, 6), seed=1)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_unused_tokens_and_places_get_a_gradient_of_0() -> None:
    model = GPTModel(TINY)
    ids = np.array([[1, 2, 2]])
    model.loss(ids, ids).backward()
    used = [i for i, row in enumerate(model.tok_emb.weight.grad) if row.any()]
    places = [i for i, row in enumerate(model.pos_emb.weight.grad) if row.any()]
    assert (used, places) == ([1, 2], [0, 1, 2])


# --- dropout


def noisy(seed: int = 0, rate: float = 0.3) -> GPTModel:
    return GPTModel(replace(TINY, drop_rate=rate), rng=Generator(seed))


def test_training_draws_new_masks_each_time_and_evaluation_none() -> None:
    model, ids = noisy(), ids_of((2, 6))
    training = [model.train()(ids).data for _ in range(2)]
    evaluation = [model.eval()(ids).data for _ in range(2)]
    assert (training[0] != training[1]).any()
    np.testing.assert_array_equal(*evaluation)
    assert (training[0] != evaluation[0]).any()


def test_evaluation_draws_nothing_from_the_stream() -> None:
    rng = Generator(3)
    model = GPTModel(replace(TINY, drop_rate=0.3), rng=rng).eval()
    before = rng.state()
    model(ids_of((2, 6)))
    assert rng.state() == before
    model.train()(ids_of((2, 6)))
    assert rng.state() != before


def test_evaluation_equals_a_model_without_dropout() -> None:
    with_dropout, without = noisy(), GPTModel(TINY)
    without.load_state_dict(with_dropout.state_dict())
    np.testing.assert_array_equal(with_dropout.eval()(ids_of((2, 6))).data, without.train()(ids_of((2, 6))).data)


def test_one_seed_gives_one_series_of_training_losses_and_another_seed_another() -> None:
    ids, targets = ids_of((2, 6)), ids_of((2, 6), seed=1)
    weights = noisy().state_dict()

    def losses(seed: int) -> list[float]:
        model = noisy(seed)
        model.load_state_dict(weights)
        return [model.loss(ids, targets).item() for _ in range(3)]

    assert losses(5) == losses(5)
    assert losses(5) != losses(6)


def test_dropout_falls_on_attention_weights_both_residual_branches_and_embeddings_alone() -> None:
    class Recording(Generator):
        shapes: list[tuple[int, ...]]

        def keep_mask(self, shape: tuple[int, ...], rate: float) -> npt.NDArray[np.bool_]:
            self.shapes.append(shape)
            assert rate == 0.3
            return super().keep_mask(shape, rate)

    rng = Recording()
    rng.shapes = []
    GPTModel(replace(TINY, drop_rate=0.3), rng=rng)(ids_of((3, 5)))
    hidden, attention = (3, 5, 8), (3, 2, 5, 5)
    assert rng.shapes == [hidden] + 2 * [attention, hidden, hidden]


def test_the_mean_over_many_dropout_masks_of_the_embeddings_is_the_value_without() -> None:
    model = noisy(rate=0.5)
    tokens = np.full((64, 6), 4)
    embedded = model.tok_emb(tokens) + model.pos_emb(np.arange(6))
    dropped = model.drop_emb(embedded).data
    assert 0.45 < (dropped == 0).mean() < 0.55
    kept = dropped != 0
    np.testing.assert_array_equal(dropped[kept], 2 * embedded.data[kept])


def test_ids_may_be_a_list_or_a_tensor() -> None:
    model = GPTModel(TINY)
    ids = [[1, 2, 0]]
    expected = model(np.array(ids)).data
    for given in (ids, Tensor(np.array(ids))):
        np.testing.assert_array_equal(model(given).data, expected)
        assert model.loss(given, given).item() == model.loss(np.array(ids), np.array(ids)).item()
