"""Memory and FLOP estimates against measurements."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nanograd_gpt.bench.estimate import flops_per_second, memory_bytes, step_flops, step_seconds
from nanograd_gpt.gpt.config import PRESETS, GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.training.config import preset

SMALL = GPTConfig(vocab_size=50, context_length=16, emb_dim=8, n_heads=2, n_layers=1)
TINY = PRESETS["tiny"]


def peak_of(work: Callable[[], object]) -> int:
    """Peak of the bytes in use, NumPy's included."""
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    del kept
    return peak


def one_step(config: GPTConfig, batch_size: int) -> object:
    model = GPTModel(config)
    optimizer = AdamW(model.parameters())
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (batch_size, config.context_length + 1))
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, qkv_bias=True),
        replace(SMALL, tied_head=True),
        replace(SMALL, n_layers=3, n_heads=1),
        replace(SMALL, vocab_size=7, context_length=3, emb_dim=12, n_heads=4, qkv_bias=True),
        TINY,
    ],
)
def test_the_number_of_parameters_is_the_built_models(config: GPTConfig) -> None:
    model = GPTModel(config)
    assert config.n_parameters == model.n_parameters == sum(a.size for a in model.state_dict().values())


@pytest.mark.parametrize(
    ("name", "context_length", "expected"),
    [
        ("gpt2-124m", 256, 162_419_712),
        ("gpt2-124m", 1024, 163_009_536),
        ("gpt2-355m", 1024, 406_212_608),
        ("gpt2-774m", 1024, 838_220_800),
        ("gpt2-1558m", 1024, 1_637_792_000),
    ],
)
def test_the_number_of_parameters_is_the_books(name: str, context_length: int, expected: int) -> None:
    assert replace(PRESETS[name], context_length=context_length).n_parameters == expected


@pytest.mark.parametrize("batch_size", [1, preset("tiny").data.batch_size, 32])
def test_the_memory_of_the_tiny_preset_is_estimated_within_a_factor_of_2(batch_size: int) -> None:
    needed = peak_of(lambda: one_step(TINY, batch_size))
    assert 0.5 < memory_bytes(TINY, batch_size) / needed < 2


@pytest.mark.parametrize(
    "changes", [{"vocab_size": 5000}, {"context_length": 256}, {"n_layers": 8}, {"emb_dim": 320}], ids=str
)
def test_the_memory_is_estimated_within_a_factor_of_2_as_sizes_change(changes: dict[str, int]) -> None:
    config = replace(TINY, **changes)
    needed = peak_of(lambda: one_step(config, 8))
    assert 0.5 < memory_bytes(config, 8) / needed < 2


@pytest.mark.parametrize("tied", [False, True])
def test_a_steps_multiplications_are_counted_by_hand(tied: bool) -> None:
    tokens, V, T, C = 100, 50, 16, 8
    each = 4 * C * C + 2 * 4 * C * C + C * V + 2 * T * C  # four projections, two of the feed-forward, head, attention
    assert step_flops(replace(SMALL, tied_head=tied), tokens) == pytest.approx(3 * 2 * tokens * each, rel=0.1)


@pytest.mark.parametrize("times", [2, 7])
def test_the_time_grows_with_the_tokens(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.bench.estimate.flops_per_second", lambda device: 1e9)
    assert step_seconds(TINY, times * 512, "cpu") == pytest.approx(times * step_seconds(TINY, 512, "cpu"))


def test_this_machine_multiplies_at_a_plausible_speed() -> None:
    assert 1e8 < flops_per_second("cpu", size=128, rounds=3) < 1e13
