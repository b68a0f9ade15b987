"""The model against the document's in PyTorch, where it is installed: numbers and gradients, weights by name, text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # what is imported below needs torch: only once importorskip has found it
import oracle.book_model as book
from oracle.closeness import assert_all_close, assert_close
from oracle.pair import SHAPES, Pair

from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator

torch.set_num_threads(1)

PRECISIONS = {np.float64: 1e-12, np.float32: 1e-5}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=PRECISIONS, ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- the model


def test_logits_loss_and_all_gradients_are_equal(shape: str, dtype: Any) -> None:
    pair, tolerance = Pair(shape, dtype), PRECISIONS[dtype]
    ids, targets = torch.from_numpy(pair.ids), torch.from_numpy(pair.targets)
    logits, their_loss = pair.theirs(ids), book.calc_loss_batch(ids, targets, pair.theirs)
    their_loss.backward()
    assert_close(pair.ours(pair.ids).data, logits.detach().numpy(), tolerance, "logits")
    loss = pair.ours.loss(pair.ids, pair.targets)
    loss.backward()
    assert_close(loss.data, their_loss.item(), tolerance, "loss")
    assert_all_close(pair.our_gradients(), pair.their_gradients(), tolerance)


def test_gradients_through_the_logits_are_equal(shape: str) -> None:
    pair = Pair(shape)
    upstream = np.random.default_rng(7).standard_normal((*pair.ids.shape, pair.cfg["vocab_size"]))
    pair.theirs(torch.from_numpy(pair.ids)).backward(torch.from_numpy(upstream))
    pair.ours(pair.ids).backward(upstream)
    assert_all_close(pair.our_gradients(), pair.their_gradients(), PRECISIONS[np.float64])


def test_gradients_of_two_batches_add_up(shape: str) -> None:
    pair = Pair(shape)
    for ids, targets in pair.batches[:2]:
        book.calc_loss_batch(torch.from_numpy(ids), torch.from_numpy(targets), pair.theirs).backward()
        pair.ours.loss(ids, targets).backward()
    assert_all_close(pair.our_gradients(), pair.their_gradients(), PRECISIONS[np.float64])


def test_with_the_same_dropout_masks_loss_and_all_gradients_are_equal(shape: str) -> None:
    rate, masks = 0.3, []

    class Recording(Generator):
        def keep_mask(self, shape: tuple[int, ...], rate: float) -> npt.NDArray[np.bool_]:
            masks.append(super().keep_mask(shape, rate))
            return masks[-1]

    class Given(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * torch.from_numpy(masks.pop(0)) / (1 - rate)

    pair = Pair(shape)
    ours = GPTModel(pair.cfg | {"drop_rate": rate}, rng=Recording(3)).to(dtype=np.float64)
    ours.load_state_dict(pair.ours.state_dict())
    loss = ours.loss(pair.ids, pair.targets)
    loss.backward()
    pair.theirs.drop_emb = Given()
    for block in pair.theirs.trf_blocks:
        block.att.dropout = block.drop_shortcut = Given()
    assert len(masks) == 1 + 3 * len(pair.theirs.trf_blocks)
    their_loss = book.calc_loss_batch(torch.from_numpy(pair.ids), torch.from_numpy(pair.targets), pair.theirs)
    their_loss.backward()
    assert masks == []
    assert_close(loss.data, their_loss.item(), PRECISIONS[np.float64], "loss")
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    assert_all_close(gradients, pair.their_gradients(), PRECISIONS[np.float64])


# --- weights by name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_our_state_loads_into_the_documents_model_strictly_and_gives_the_same_logits(shape: str, dtype: Any) -> None:
    pair = Pair(shape, dtype)
    torch.manual_seed(99)
    fresh = book.GPTModel(pair.cfg).to(torch.float64 if dtype == np.float64 else torch.float32)
    state = {name: torch.from_numpy(a) for name, a in pair.ours.book_state_dict().items()}
    fresh.load_state_dict(state, strict=True)
    for name, t in pair.theirs.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], t), name
    logits = fresh(torch.from_numpy(pair.ids)).detach().numpy()
    assert_close(pair.ours(pair.ids).data, logits, PRECISIONS[dtype], "logits")


def test_our_state_has_pytorchs_names_shapes_and_order(shape: str) -> None:
    pair = Pair(shape)
    ours, theirs = pair.ours.book_state_dict(), pair.theirs.state_dict()
    assert [(name, a.shape) for name, a in ours.items()] == [(name, tuple(t.shape)) for name, t in theirs.items()]


def test_our_parameters_come_in_pytorchs_order(shape: str) -> None:
    pair = Pair(shape)
    ours = [(name, p.shape) for name, p in pair.ours.named_parameters()]
    assert ours == [(name, tuple(p.shape)) for name, p in pair.theirs.named_parameters()]


def test_pytorchs_state_loads_into_ours_to_the_last_bit(shape: str) -> None:
    pair = Pair(shape)
    torch.manual_seed(99)
    fresh = book.GPTModel(pair.cfg).double()
    state = {name: t.numpy() for name, t in fresh.state_dict().items()}
    pair.ours.load_state_dict(state)
    for name, array in pair.ours.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


# --- text


@pytest.mark.parametrize("top_k", [None, 1, 5])
def test_greedy_text_past_the_context_is_equal(shape: str, top_k: int | None) -> None:
    pair = Pair(shape, gain=2.0)
    prompt, context = pair.ids[:1, :3], pair.cfg["context_length"]
    theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt), 30, context, top_k=top_k)
    ours = generate_text(pair.ours, prompt, 30, context, top_k=top_k)
    assert ours.shape[1] > context
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_greedy_text_compared_here_has_many_different_tokens() -> None:
    pair = Pair("plain", gain=2.0)
    assert len(set(generate_text(pair.ours, pair.ids[:1, :3], 30, 8)[0].tolist())) > 5


def test_each_row_of_a_batch_is_the_documents_text_of_that_row() -> None:
    pair = Pair("qkv_bias", gain=2.0)
    ours = generate_text(pair.ours, pair.ids, 30, 8)
    for row, prompt in zip(ours, pair.ids, strict=True):
        theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt[None]), 30, 8)
        np.testing.assert_array_equal(row[None], theirs.numpy())


def test_sampling_from_the_top_1_is_equal() -> None:
    pair = Pair("plain", gain=2.0)
    theirs = book.generate_text(pair.theirs, torch.from_numpy(pair.ids[:1]), 20, 8, temperature=1.4, top_k=1)
    np.testing.assert_array_equal(generate_text(pair.ours, pair.ids[:1], 20, 8, 1.4, 1), theirs.numpy())


def test_text_ends_before_the_eos_where_the_documents_ends() -> None:
    pair = Pair("plain", gain=2.0)
    prompt = pair.ids[:1, :3]
    whole = generate_text(pair.ours, prompt, 30, 8)[0].tolist()
    lengths = []
    for eos in set(whole[3:]):
        theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt), 30, 8, eos_id=eos)
        ours = generate_text(pair.ours, prompt, 30, 8, eos_id=eos)
        np.testing.assert_array_equal(ours, theirs.numpy())
        lengths.append(ours.shape[1])
    assert len(set(lengths)) > 3
    assert min(lengths) == 3
