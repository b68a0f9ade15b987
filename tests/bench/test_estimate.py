"""Memory and time estimates against measurements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from standin.cupy_standin import installed

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads
from nanograd_gpt.bench import estimate
from nanograd_gpt.bench.estimate import Times, logits_bytes, memory_bytes, n_chunks, training_times
from nanograd_gpt.bench.expected import expected_of
from nanograd_gpt.bench.machine import COPIED, flops_per_second, resident_memory
from nanograd_gpt.bench.statistics import summary
from nanograd_gpt.bench.step import TrainStep, random_batch
from nanograd_gpt.gpt.config import PRESETS, GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run

SMALL = GPTConfig(vocab_size=50, context_length=16, emb_dim=8, n_heads=2, n_layers=1)
TINY = PRESETS["tiny"]
STORED = Path(__file__).parents[2] / "benchmarks" / "results" / "estimates.json"
RUNS: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))["runs"]
CHILD = """
import sys
from nanograd_gpt.bench.machine import peak_memory
from nanograd_gpt.cli import main
code = main(sys.argv[1:])
print(peak_memory())
sys.exit(code)
"""


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
@pytest.mark.parametrize("drop_rate", [0.0, 0.2])
def test_the_arrays_of_the_tiny_preset_are_estimated_within_a_tenth(batch_size: int, drop_rate: float) -> None:
    config = replace(TINY, drop_rate=drop_rate)
    needed = peak_of(lambda: one_step(config, batch_size))
    assert 0.9 < memory_bytes(config, batch_size) / needed < 1.1


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 5000},
        {"context_length": 256},
        {"context_length": 512, "emb_dim": 64, "n_heads": 4, "n_layers": 2},
        {"context_length": 1024, "emb_dim": 32, "n_heads": 4, "n_layers": 1},
        {"n_layers": 8},
        {"emb_dim": 320},
        {"tied_head": True},
        {"qkv_bias": True},
    ],
    ids=str,
)
def test_the_arrays_are_estimated_within_a_quarter_as_sizes_change(changes: dict[str, int]) -> None:
    config = replace(TINY, **changes)
    needed = peak_of(lambda: one_step(config, 4))
    assert 0.75 < memory_bytes(config, 4) / needed < 1.25


def test_logits_of_many_tokens_are_two_chunks() -> None:
    V = 1 << 15
    assert (n_chunks(1024, V), logits_bytes(1024, V)) == (1, 4 * 1024 * V)
    assert (n_chunks(4096, V), logits_bytes(4096, V)) == (4, 2 * 4 * 1024 * V)


def test_the_process_has_memory_of_its_own() -> None:
    assert 10 << 20 < resident_memory() < 1 << 34


# --- time


@pytest.fixture
def one_thread_and_cpu_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Time one thread by the CPU's clock, which other processes hardly disturb."""
    monkeypatch.setattr(estimate, "perf_counter", process_time)
    before = n_threads()
    set_threads(1)
    yield
    set_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "batch_size"),
    [({}, 8), ({"drop_rate": 0.0}, 8), ({"n_layers": 2, "emb_dim": 320}, 8), ({"context_length": 256}, 4)],
    ids=str,
)
@pytest.mark.usefixtures("one_thread_and_cpu_time")
def test_an_update_takes_about_as_long_as_estimated(changes: dict[str, Any], batch_size: int) -> None:
    """Allow a factor of 2: a busy machine disturbs the caches too; benchmarks/estimates.py has the real ratios."""
    config = replace(TINY, **changes)
    times = training_times(config, batch_size, "cpu", Generator())
    step = TrainStep(GPTModel(config, rng=Generator()), random_batch(config, batch_size, config.context_length))
    measured = summary([step.timed()["cpu"] for _ in range(9)][2:]).median
    assert 0.5 < times.update / measured < 2
    assert 0 < times.token < times.forward < times.update


def test_a_large_batch_and_a_large_vocabulary_are_timed_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "seconds_of", lambda work, device: 1.0)
    monkeypatch.setattr(estimate, "TIMED_TOKENS", 64)
    monkeypatch.setattr(estimate, "TIMED_VOCABULARY", 25)
    L, rows = 3, 4
    config = replace(SMALL, n_layers=L)
    times = training_times(config, 10, "cpu", Generator(), accumulate=2)
    timed = replace(config, n_layers=1, vocab_size=25).n_parameters
    assert times.update == pytest.approx(2 * (10 / rows) * (L + 50 / 25) + config.n_parameters / timed)
    assert times.forward == pytest.approx((10 / rows) * (L + 50 / 25))
    assert times.token == pytest.approx(L + 50 / 25)


def test_a_runs_time_is_that_of_its_updates_evaluations_and_samples() -> None:
    assert Times(update=3.0, forward=1.0, token=0.1).total(10, 4, 50) == pytest.approx(39.0)


def test_estimating_draws_nothing_from_the_runs_streams_and_is_not_the_runs_model(data: Path) -> None:
    run = Run(preset("tiny").replace({"data": str(data), "context_length": 8, "n_merges": 20}), "cpu")
    before = run.model_rng.state(), run.data_rng.state()
    expected = expected_of(run)
    assert (run.model_rng.state(), run.data_rng.state()) == before
    assert "model" not in vars(run)
    assert expected.seconds > 0
    assert expected_of(run, done=run.total_steps - 1).seconds < expected.seconds
    assert expected_of(run, freed=1 << 40).memory < 0 < expected.memory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the old miller and the wind.  " * 80, encoding="utf-8")
    return path


def test_this_machine_multiplies_at_a_plausible_speed() -> None:
    assert 1e8 < flops_per_second("cpu", size=128, rounds=3) < 1e13


@pytest.mark.slow
def test_a_gpu_multiplies_by_the_package_s_own_products_and_copies_far_more_than_its_caches() -> None:
    with installed() as standin:
        assert flops_per_second("cuda", size=16, rounds=2) > 0
        assert [product.shape for product in standin.cublaslt.products] == [(1, 16, 16, 16)] * 3
    assert COPIED["cuda"] > 10 * 50e6


# --- stored results


@pytest.mark.parametrize("name", RUNS)
def test_what_train_expected_is_within_a_quarter_of_what_it_took(name: str) -> None:
    run = RUNS[name]
    assert 0.75 <= run["expected_bytes"] / run["peak_bytes"] <= 1.25
    assert 0.75 <= run["expected_seconds"] / run["seconds"] <= 1.25


def test_at_least_six_configurations_were_measured() -> None:
    assert len(RUNS) >= 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [[], ["--batch-size", 32, "--train-ratio", 0.8], ["--emb-dim", 320, "--drop-rate", 0]], ids=str
)
def test_the_memory_that_train_says_is_what_its_process_takes(settings: list[object], tmp_path: Path) -> None:
    command = ["train", "--out", tmp_path / "run", "--max-steps", 2, *settings]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, command)], capture_output=True, text=True, encoding="utf-8", check=True
    )
    said = re.search(r"^expected    (\d+) MiB of memory", result.stdout, re.MULTILINE)
    assert said is not None
    peak = int(result.stdout.split()[-1])
    assert 0.75 < int(said[1]) * 2**20 / peak < 1.25
