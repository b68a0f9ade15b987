"""A check that a model's gradients, modes and random stream are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tape.small import IDS, model_of

import nanograd_gpt as ng
from nanograd_gpt.gpt.model import GPTModel


@contextmanager
def unchanged(drop_rate: float, **changed: Any) -> Iterator[GPTModel]:
    """A model in mixed modes, with gradients of some parameters, which are the same at the block's end, bit for bit.

    The gradients are in an optimizer's flat memory, as in training.
    """
    model, twin = (model_of(drop_rate, **changed) for _ in range(2))
    for one in (model, twin):
        one.trf_blocks[1].eval()
        ng.AdamW(one.parameters())
        one.loss(IDS, IDS).backward()
        one.pos_emb.weight.zero_grad()
    nodes = [p.node for p in model.parameters()]
    arrays = [(p.data, p.grad) for p in model.parameters()]
    yield model
    assert all(p.node is node for p, node in zip(model.parameters(), nodes, strict=True))
    assert all(p.data is a and p.grad is g for p, (a, g) in zip(model.parameters(), arrays, strict=True))
    assert [m.training for m in model.modules()] == [m.training for m in twin.modules()]
    assert len({m.training for m in model.modules()}) == 2
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)
        assert (ours.grad is None) == (theirs.grad is None)
        if theirs.grad is not None:
            np.testing.assert_array_equal(ours.grad, theirs.grad)
    assert model.pos_emb.weight.grad is None
    np.testing.assert_array_equal(model.rng.uniform((4,)), twin.rng.uniform((4,)))
    assert ng.is_grad_enabled()
