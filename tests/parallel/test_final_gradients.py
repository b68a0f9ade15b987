"""A leaf is final once, after its last use, and with the gradient that it has in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanograd_gpt import autograd
from nanograd_gpt.autograd import Leaf
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.parallel.buckets import Buckets
from nanograd_gpt.parallel.final_gradients import FinalGradients
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

SIZES = {"vocab_size": 11, "context_length": 4, "emb_dim": 8, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
IDS = np.arange(8).reshape(2, 4)


def final_order(loss: Tensor) -> list[tuple[Leaf, Any]]:
    """Each leaf in the order in which it is final, with its gradient then."""
    found: list[tuple[Leaf, Any]] = []

    def when_final(leaf: Leaf) -> None:
        assert leaf.grad is not None
        found.append((leaf, leaf.grad.copy()))

    assert loss.node is not None
    autograd.backward(loss.node, np.ones_like(loss.data), FinalGradients(loss.node, when_final).delivered)
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_each_parameter_of_a_model_is_final_once_with_its_whole_gradient(tied: bool) -> None:
    model = GPTModel({**SIZES, "tied_head": tied}, rng=Generator(1))
    found = final_order(model.loss(IDS, IDS))
    assert {id(leaf) for leaf, _ in found} == {id(p.node) for p in model.parameters()}
    assert len(found) == len(model.parameters())
    for leaf, gradient in found:
        np.testing.assert_array_equal(gradient, leaf.grad)
    last = {id(leaf) for leaf, _ in found[-2:]}
    assert last == {id(model.tok_emb.weight.node), id(model.pos_emb.weight.node)}


def test_a_weight_of_several_operations_is_final_after_the_last() -> None:
    x, y = (Tensor(np.array([2.0, 3.0]), requires_grad=True) for _ in range(2))
    found = final_order(((x * y).tanh() + x * x * x).sum())
    assert [leaf for leaf, _ in found].count(x.node) == 1
    np.testing.assert_array_equal({id(leaf): g for leaf, g in found}[id(x.node)], x.grad)


def test_a_leaf_that_is_not_reached_is_not_final() -> None:
    x, unused = (Tensor(np.array([2.0]), requires_grad=True) for _ in range(2))
    assert [leaf for leaf, _ in final_order((x * x).sum())] == [x.node]
    assert unused.grad is None


@pytest.mark.parametrize("nbytes", [1, 500, 4000, 10**9])
def test_buckets_cover_the_flat_gradient_once_and_are_sent_when_all_of_it_is_final(nbytes: int) -> None:
    model = GPTModel(SIZES, rng=Generator(1))
    optimizer = AdamW(model.parameters())
    sent: list[tuple[slice, Any]] = []
    buckets = Buckets(optimizer.flat, lambda part: sent.append((part, optimizer.flat.grad[part].copy())), nbytes)
    for _ in range(2):  # two passes
        sent.clear()
        optimizer.zero_grad()
        loss = model.loss(IDS, IDS)
        assert loss.node is not None
        autograd.backward(loss.node, np.ones_like(loss.data), FinalGradients(loss.node, buckets.final).delivered)
        buckets.send_rest()
        covered = np.zeros(optimizer.flat.grad.size, dtype=int)
        for part, gradient in sent:
            covered[part] += 1
            np.testing.assert_array_equal(gradient, optimizer.flat.grad[part])
            assert (part.stop - part.start) * 4 >= nbytes or part.start == 0
        np.testing.assert_array_equal(covered, 1)


def test_a_bucket_with_a_parameter_that_has_no_gradient_is_sent_with_the_rest() -> None:
    model = GPTModel(SIZES, rng=Generator(1))
    extra = Tensor(np.ones(3, dtype=np.float32), requires_grad=True)
    optimizer = AdamW([*model.parameters(), extra])
    sent: list[slice] = []
    buckets = Buckets(optimizer.flat, sent.append, 1)
    loss = model.loss(IDS, IDS)
    assert loss.node is not None
    autograd.backward(loss.node, np.ones_like(loss.data), FinalGradients(loss.node, buckets.final).delivered)
    assert len(sent) == len(model.parameters())
    buckets.send_rest()
    assert sent[-1] == slice(optimizer.flat.grad.size - 3, optimizer.flat.grad.size)
