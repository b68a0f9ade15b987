"""An embedding's gradient of which the rows are known, compared with one of which they are not: the same bits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt import AdamW, clip_grad_norm
from nanograd_gpt.autograd import Leaf
from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import GradOut
from nanograd_gpt.moved_rows import FEW
from nanograd_gpt.nn import Embedding, Linear, Module, Parameter
from nanograd_gpt.nn import functional as F
from nanograd_gpt.nonzero_rows import NonzeroRows
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

V, C = 64, 6


class Pair(Module):
    """A lookup and a layer, which may share a weight, and their optimizer."""

    def __init__(self, by_rows: bool = True, tied: bool = False) -> None:
        rng = Generator(3)
        self.embedding = Embedding(V, C, rng=rng)
        self.embedding.weight.by_rows = by_rows
        self.head = Linear(C, V, bias=False, rng=rng)
        self.is_tied = tied
        self.optimizer: AdamW = AdamW(self.parameters(), lr=0.1, weight_decay=0.1)

    @property
    def weight(self) -> Parameter:
        return self.embedding.weight

    @property
    def leaf(self) -> Leaf:
        assert isinstance(self.weight.node, Leaf)
        return self.weight.node

    def backward(self, ids: Any) -> None:
        x = self.embedding(np.array(ids))
        y = F.linear(x, self.weight, None) if self.is_tied else self.head(x)
        (y * y).sum().backward()

    def state(self) -> list[npt.NDArray[Any]]:
        flat = self.optimizer.flat
        gradients = [
            np.zeros_like(p.data) if leaf.grad is None else leaf.grad
            for p, leaf in zip(flat.parameters, flat.leaves, strict=True)
        ]
        return [flat.data, self.optimizer.exp_avg, self.optimizer.exp_avg_sq, *gradients]


def update(pair: Pair, ids: Any, max_norm: float | None = None) -> None:
    pair.backward(ids)
    pair.optimizer.step(max_norm)
    pair.optimizer.zero_grad()


def read(pair: Pair) -> None:
    pair.backward([5])
    assert pair.weight.grad is not None


def write(pair: Pair) -> None:
    pair.backward([5])
    gradient = pair.weight.grad
    assert gradient is not None
    gradient[40] = 3


def write_to_the_flat_array(pair: Pair) -> None:
    pair.backward([5])
    pair.optimizer.flat.grad[-1 - V * C] = 2


def keep_and_write_later(pair: Pair) -> None:
    pair.backward([5])
    kept = pair.weight.grad
    assert kept is not None
    update(pair, [7, 8])
    pair.backward([9])
    kept[33] = 1


def add_densely(pair: Pair) -> None:
    pair.backward([5])
    (pair.weight * 2).sum().backward()


def start_densely(pair: Pair) -> None:
    pair.optimizer.zero_grad()
    (pair.weight * 2).sum().backward()
    pair.backward([5])


def zero_in_place(pair: Pair) -> None:
    pair.backward([5])
    pair.optimizer.zero_grad(set_to_none=False)


def drop(pair: Pair) -> None:
    pair.backward([5])
    pair.weight.grad = None


def clip(pair: Pair) -> None:
    pair.backward([5, 60])
    clip_grad_norm(pair.parameters(), 0.01)


def load(pair: Pair) -> None:
    other = Pair()
    update(other, [1, 50])
    update(other, [50, 51])
    pair.optimizer.load_state_dict(other.optimizer.state_dict())


def load_many(pair: Pair) -> None:
    other = Pair()
    update(other, range(V))
    pair.optimizer.load_state_dict(copy.deepcopy(other.optimizer.state_dict()))


def copied(pair: Pair) -> None:
    pair.backward([5, 6])
    vars(pair).update(vars(copy.deepcopy(pair)))


def pickled(pair: Pair) -> None:
    pair.backward([5, 6])
    vars(pair).update(vars(pickle.loads(pickle.dumps(pair))))


def a_new_optimizer(pair: Pair) -> None:
    pair.backward([5, 6])
    pair.optimizer = AdamW(pair.parameters(), lr=0.2)


ACTIONS: list[Callable[[Pair], None]] = [
    read,
    write,
    write_to_the_flat_array,
    keep_and_write_later,
    add_densely,
    start_densely,
    zero_in_place,
    drop,
    clip,
    load,
    load_many,
    copied,
    pickled,
    a_new_optimizer,
]


def histories(act: Callable[[Pair], None], tied: bool) -> Iterator[tuple[Any, Any]]:
    """The states of a pair by rows and of one without, after each step of a short training with an action within."""
    pairs = [Pair(by_rows, tied) for by_rows in (True, False)]
    steps: list[Callable[[Pair], None]] = [
        lambda pair: update(pair, [3, 3, 62]),
        lambda pair: update(pair, [[1, 2], [3, 1]], max_norm=0.1),
        act,
        lambda pair: pair.optimizer.step(),
        lambda pair: update(pair, [0, 4]),
        lambda pair: update(pair, range(V)),
        lambda pair: update(pair, [], max_norm=None),
        act,
        lambda pair: update(pair, [4]),
    ]
    for step in steps:
        for pair in pairs:
            step(pair)
        yield pairs[0].state(), pairs[1].state()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("act", ACTIONS, ids=lambda act: act.__name__)
def test_whatever_happens_between_updates_the_bits_are_those_without_rows(
    act: Callable[[Pair], None], tied: bool
) -> None:
    for ours, expected in histories(act, tied):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_that_were_not_looked_up_are_neither_written_nor_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, adamw = [], cpu.adamw
    monkeypatch.setattr(cpu, "adamw", lambda *args: (sizes.append(args[0].size), adamw(*args)))
    pair = Pair()
    pair.leaf.buffer[...] = np.where(np.arange(V) == 20, np.nan, 0)[:, None]  # never looked at: nan would spread
    update(pair, [3, 3, 62])
    update(pair, [4])
    assert sizes == [2 * C, V * C, 3 * C, V * C]  # the rows of the embedding in use, and all of the head
    assert pair.leaf.rows is not None
    assert np.flatnonzero(pair.leaf.rows.marked).tolist() == [4]
    assert np.isfinite(pair.optimizer.flat.data).all()


def test_an_array_that_was_taken_from_grad_makes_all_rows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, adamw = [], cpu.adamw
    monkeypatch.setattr(cpu, "adamw", lambda *args: (sizes.append(args[0].size), adamw(*args)))
    pair = Pair()
    assert pair.weight.grad is None  # which gives nobody an array
    update(pair, [3])
    read(pair)
    pair.optimizer.step()
    assert pair.leaf.rows is None
    assert sizes == [C, V * C, 2 * V * C]


def test_many_rows_are_updated_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, adamw = [], cpu.adamw
    monkeypatch.setattr(cpu, "adamw", lambda *args: (sizes.append(args[0].size), adamw(*args)))
    pair = Pair()
    update(pair, range(int(FEW * V)))
    update(pair, [V - 1])
    assert sizes == [int(FEW * V) * C, V * C, 2 * V * C]


def test_a_row_that_moved_keeps_moving_until_the_means_are_loaded_again() -> None:
    pair, fresh = Pair(), Pair()
    update(pair, [3])
    before = pair.weight.data[3].copy()
    update(pair, [4])
    assert (pair.weight.data[3] != before * (1 - 0.1 * 0.1)).any()
    pair.optimizer.load_state_dict(fresh.optimizer.state_dict())
    before = pair.weight.data[3].copy()
    update(pair, [5])
    np.testing.assert_array_equal(pair.weight.data[3], before * np.float32(1 - 0.1 * 0.1))


def test_an_optimizer_made_after_the_first_backward_finds_the_rows() -> None:
    pair = Pair()
    pair.leaf.buffer = pair.leaf.rows = None  # as before there was an optimizer
    pair.backward([3, 9])
    pair.optimizer = AdamW(pair.parameters())
    assert pair.leaf.rows is not None
    assert np.flatnonzero(pair.leaf.rows.marked).tolist() == [3, 9]
    pair.optimizer.step()
    assert np.flatnonzero(pair.optimizer.moved[0].marked).tolist() == [3, 9]


@pytest.mark.parametrize("settings", [{"shards": 2}, {}])
def test_parts_of_processes_know_no_rows(settings: dict[str, int]) -> None:
    pair = Pair()
    if settings:
        pair.optimizer.keep_shard(0, 2)
    assert (pair.leaf.rows is None) == bool(settings)


def test_a_lookup_in_a_plain_tensor_has_a_gradient_of_all_rows() -> None:
    table = Tensor(np.ones((V, C)), requires_grad=True)
    optimizer = AdamW([table])  # type: ignore[list-item]  # AdamW takes Tensors that are not Parameters
    F.embedding(np.array([1, 1]), table).sum().backward()
    optimizer.step()
    assert table.grad is not None
    assert table.grad.sum() == 2 * C


def test_memory_is_prepared_for_rows_or_for_all() -> None:
    array, rows = np.zeros((4, 2)), NonzeroRows(4)
    out = rows.written(GradOut(array, accumulate=False), np.array([1]))
    out.array[1] = 5
    assert out.accumulate
    out = rows.written(GradOut(array, accumulate=False), np.array([[2], [3]]))
    assert out.accumulate
    assert not array.any()
    assert rows.marked.tolist() == [False, False, True, True]
    assert not rows.written(GradOut(array, accumulate=False), None).accumulate
    assert rows.marked.all()
