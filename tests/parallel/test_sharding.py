"""An optimizer in parts: the memory it takes, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from parallel.mpi import needs_mpi, run_program
from parallel.trainings import SMALL, TEXT
from small_parameters import gradients, parameters

from nanograd_gpt.bench.estimate import BYTES, memory_bytes
from nanograd_gpt.bench.expected import expected_of
from nanograd_gpt.optim import AdamW
from nanograd_gpt.parallel.ranks import Alone
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run


@needs_mpi
@pytest.mark.parametrize(("size", "sharded"), [(2, False), (2, True), (4, True)])
def test_a_rank_holds_parameters_and_gradients_and_its_part_of_two_moments(size: int, sharded: bool) -> None:
    found = run_program(size, "memory", sharded)
    expected = found["parameters"] * (2 + 2 / (size if sharded else 1))
    assert found["held"] == pytest.approx([expected] * size, rel=0.05)


@pytest.mark.parametrize("of", [1, 2, 3, 4])
def test_the_parts_together_make_the_update_of_the_whole(of: int) -> None:
    whole = AdamW(parameters(), lr=0.1)
    parts = [AdamW(parameters(), lr=0.1) for _ in range(of)]
    for which, part in enumerate(parts):
        part.keep_shard(which, of)
        assert part.exp_avg.size * of == part.flat.data.size
    for seed in range(3):
        gs = gradients(seed)
        for optimizer in (whole, *parts):
            for p, g in zip(optimizer.parameters, gs, strict=True):
                p.zero_grad()
                (p * g).sum().backward()
            optimizer.step()
        joined = np.concatenate([part.flat.data[part.own] for part in parts])
        np.testing.assert_array_equal(joined[: whole.flat.data.size], whole.flat.data)
        for part in parts:  # the exchange between processes
            part.flat.data[...] = joined


def test_a_part_of_the_moments_is_not_saved_for_the_whole() -> None:
    optimizer = AdamW(parameters())
    optimizer.keep_shard(0, 2)
    with pytest.raises(RuntimeError, match="other parts are in other processes"):
        optimizer.state_dict()


def test_a_tensor_of_the_optimizer_is_still_the_models_after_the_division() -> None:
    ps = parameters()
    before = [p.data.copy() for p in ps]
    optimizer = AdamW(ps)
    optimizer.keep_shard(1, 3)
    assert all(a is b for a, b in zip(optimizer.parameters, ps, strict=True))
    for p, data in zip(ps, before, strict=True):
        np.testing.assert_array_equal(p.data, data)
        assert p.data.base is optimizer.flat.data


class Ranks(Alone):
    """Several, as far as an estimate is concerned."""

    def __init__(self, size: int, sharded: bool) -> None:
        self.size, self.part, self.sharded = size, (0, size), sharded


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_memory_that_is_expected_is_a_ranks(size: int, sharded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.bench.expected.resident_memory", lambda: 0)
    run = Run(preset("tiny").replace({**SMALL, "emb_dim": 160}), "cpu", text=TEXT, ranks=Ranks(size, sharded))
    model, weights = run.config.model, BYTES * run.config.model.n_parameters
    elsewhere = 2 * weights * (size - 1) // size if sharded else 0
    assert expected_of(run).memory == memory_bytes(model, 12 // size) - elsewhere + weights
