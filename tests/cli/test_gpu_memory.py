"""A training that the GPU's memory is too small for ends in one line that names settings which fit."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.commands import TEXT, fails, nanograd, train, works
from standin.cupy_standin import installed
from standin.device import OutOfMemoryError
from standin.record import CUDARuntimeError, Record

from nanograd_gpt.bench.gpu_estimate import gpu_memory_bytes
from nanograd_gpt.cli.gpu_memory import smaller
from nanograd_gpt.training.config import RunConfig, preset

LARGE = [
    "--context-length",
    32,
    "--emb-dim",
    64,
    "--n-layers",
    4,
    "--max-steps",
    2,
    "--eval-iter",
    1,
    "--device",
    "cuda",
]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_workspace")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "long.txt"
    path.write_text(10 * TEXT, encoding="utf-8")
    return path


@pytest.fixture
def gpu() -> Iterator[Record]:
    with installed() as record:
        yield record


@pytest.fixture
def small_workspace(gpu: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MiB for the products would be more than all else in these runs."""
    monkeypatch.setattr(importlib.import_module("nanograd_gpt.backend.cuda.gemm"), "WORKSPACE", 1 << 20)


def test_a_batch_that_is_too_large_is_answered_with_one_that_fits(tmp_path: Path, data: Path, gpu: Record) -> None:
    gpu.total_memory = 19 << 20
    message = fails(*train(tmp_path / "run", data, *LARGE, "--batch-size", 48), code=1)
    assert message.startswith("training: the GPU's memory is used up (18 MiB for arrays; the estimate is ")
    named = re.search(r"start a new run with --batch-size (\d+), which should fit", message)
    assert named is not None
    result = nanograd(*train(tmp_path / "smaller", data, *LARGE, "--batch-size", named[1]))
    assert (result.code, result.err) == (0, "")


def test_a_run_that_is_resumed_can_go_on_on_the_cpu(tmp_path: Path, data: Path, gpu: Record) -> None:
    works(*train(tmp_path / "run", data, *LARGE, "--batch-size", 16))
    gpu.total_memory = 10 << 20
    resume = ["train", "--resume", tmp_path / "run", "--max-steps", 4]
    message = fails(*resume, "--device", "cuda", code=1)
    assert message.startswith("training: the GPU's memory is used up (9 MiB for arrays")
    assert message.endswith(", or resume this one with --device cpu")
    result = nanograd(*resume, "--device", "cpu")
    assert result.code == 0, result
    assert re.fullmatch(r"note: since step_1: device cpu, was cuda; [^\n]*\n", result.err)


@pytest.mark.parametrize("error", [OutOfMemoryError(1 << 30, 1 << 20), CUDARuntimeError(2)], ids=["CuPy", "CUDA"])
def test_wherever_memory_ends_the_line_is_the_same(
    tmp_path: Path, data: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: Any) -> None:
        raise error

    monkeypatch.setattr("nanograd_gpt.optim.AdamW.step", step)
    message = fails(*train(tmp_path / "run", data, *LARGE), code=1)
    assert message.startswith("training: the GPU's memory is used up (80.0 GiB for arrays")


def test_the_hosts_lack_of_memory_is_not_the_gpus(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*args: Any) -> None:
        raise MemoryError("1 GiB")

    monkeypatch.setattr("nanograd_gpt.optim.AdamW.step", step)
    message = fails(*train(tmp_path / "run", data, *LARGE), code=1)
    assert message == "out of memory (1 GiB); use a smaller model, batch or context"


# --- the advice


def config_of(batch_size: int, **settings: Any) -> RunConfig:
    """A run whose memory is mostly for what is saved for backward."""
    sizes = {"n_layers": 4, "emb_dim": 20, "vocab_size": 60, "context_length": 256}
    return preset("tiny").replace({"batch_size": batch_size, **sizes, **settings})


def available_for(config: RunConfig, batch_size: int, **sizes: int) -> int:
    """Memory in which a batch of this size just fits, with the advice's margin."""
    return int(gpu_memory_bytes(replace(config.model, **sizes), batch_size) / 0.9) + 1


@pytest.mark.parametrize(
    ("fitting", "accumulate", "advice"),
    [
        (4, 1, "--batch-size 4, which should fit, with --accumulate 2, which makes the same updates"),
        (4, 3, "--batch-size 4, which should fit, with --accumulate 6, which makes the same updates"),
        (5, 1, "--batch-size 5, which should fit, or --batch-size 4 with --accumulate 2, which makes the same updates"),
        (1, 1, "--batch-size 1, which should fit, with --accumulate 8, which makes the same updates"),
    ],
)
def test_a_smaller_batch_comes_with_the_accumulation_that_makes_up_for_it(
    fitting: int, accumulate: int, advice: str
) -> None:
    config = config_of(8, accumulate=accumulate)
    assert smaller(config, available_for(config, fitting)) == f"start a new run with {advice}"


def test_where_no_batch_fits_the_model_is_to_be_smaller() -> None:
    config = config_of(8)
    advice = smaller(config, available_for(config, 1, n_layers=2))
    assert re.fullmatch(
        r"start a new run with --batch-size 1 and --n-layers 2 or --context-length \d+, which should fit", advice
    )
    alone = smaller(config_of(1), available_for(config, 1, n_layers=2))
    assert alone.startswith("start a new run with --n-layers 2 or --context-length ")


def test_loaded_weights_keep_their_layers() -> None:
    config = config_of(1, weights="124M")
    advice = smaller(config, available_for(config, 1, context_length=20))
    assert advice == "start a new run with --context-length 20, which should fit"


def test_where_nothing_fits_the_width_is_to_be_smaller() -> None:
    assert smaller(config_of(8), 1000) == (
        "start a new run with a smaller --emb-dim or vocabulary, or with --device cpu"
    )
