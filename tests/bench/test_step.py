"""A timed step updates the model; a batch has valid ids; repetition respects its limits."""

from __future__ import annotations

import numpy as np
import pytest

from nanograd_gpt import GPTModel
from nanograd_gpt.bench.machine import bytes_per_second, peak_memory
from nanograd_gpt.bench.step import PHASES, TrainStep, random_batch, repeated, token_times
from nanograd_gpt.gpt.config import GPTConfig

CONFIG = GPTConfig(vocab_size=31, context_length=8, emb_dim=12, n_heads=3, n_layers=1, drop_rate=0.1)


def test_a_timed_step_trains_as_another_does() -> None:
    one, other = (TrainStep(GPTModel(CONFIG), random_batch(CONFIG, 2, 8)) for _ in range(2))
    one.run()
    seconds = other.timed()
    assert one.run() == other.run()
    assert seconds["total"] == pytest.approx(sum(seconds[phase] for phase in PHASES), rel=1e-9)
    assert all(seconds[name] >= 0 for name in (*PHASES, "cpu"))


def test_a_batch_is_of_ids_and_those_that_follow() -> None:
    ids, targets = random_batch(CONFIG, 3, 8, seed=1)
    assert ids.shape == targets.shape == (3, 8)
    assert (ids[:, 1:] == targets[:, :-1]).all()
    assert 0 <= ids.min() <= ids.max() < 31
    assert (ids != random_batch(CONFIG, 3, 8, seed=2)[0]).any()


def test_every_token_of_a_generation_has_a_time_of_its_own() -> None:
    """None is the difference of two runs, which other work on the machine can make negative."""
    times = token_times(GPTModel(CONFIG).eval(), np.array([1, 2]), 3)
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 2), (1e9, 4)])
def test_repetition_has_a_least_and_a_most(seconds: float, expected: int) -> None:
    assert repeated(lambda: 1, seconds, at_least=2, at_most=4) == [1] * expected


def test_memory_has_a_rate_and_a_process_a_peak() -> None:
    assert bytes_per_second("cpu", rounds=1) > 0
    peak = peak_memory()
    assert peak is None or peak > 2**20
