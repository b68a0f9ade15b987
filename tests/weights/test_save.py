"""Saving a model as transformers do, atomically, and without a second copy in memory."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt.tiny import TINY, ids_of, one_line
from safetensors.numpy import load_file

from nanograd_gpt import files
from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.save import save_pretrained

from .layouts import CASES, GOLDENS, computes_the_golden


@pytest.mark.parametrize("name", CASES)
def test_what_we_write_is_what_transformers_wrote(name: str, tmp_path: Path) -> None:
    source = GOLDENS / f"gpt2_{name}"
    written = load_file(save_pretrained(tmp_path / "ours", load_weights(source)) / "model.safetensors")
    theirs = load_file(source / "model.safetensors")
    assert written.keys() == theirs.keys()
    for part, array in theirs.items():
        np.testing.assert_array_equal(written[part], array)
    computes_the_golden(load_weights(tmp_path / "ours"), name)
    files = ["config.json", "generation_config.json", "model.safetensors"]
    assert sorted(file.name for file in (tmp_path / "ours").iterdir()) == files
    assert [file.name for file in tmp_path.iterdir()] == ["ours"]


def test_a_model_without_qkv_bias_goes_out_with_zeros(tmp_path: Path) -> None:
    model = GPTModel(TINY, rng=Generator(1)).eval()
    again = load_weights(save_pretrained(tmp_path / "out", model))
    assert again.config.qkv_bias
    np.testing.assert_allclose(again(ids_of((2, 6))).data, model(ids_of((2, 6))).data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_keep_their_precision(dtype: Any, tmp_path: Path) -> None:
    model = GPTModel(TINY, rng=Generator(1)).to(dtype=dtype)
    arrays = load_file(save_pretrained(tmp_path / "out", model) / "model.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(arrays["transformer.wte.weight"], model.tok_emb.weight.data)


def test_numbers_that_no_file_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model has dtype complex128; convert it to one of float16, ") as error:
        save_pretrained(tmp_path / "out", GPTModel(TINY).to(dtype=np.complex128))
    one_line(error)
    assert not any(tmp_path.iterdir())


def test_a_directory_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        save_pretrained(tmp_path, GPTModel(TINY))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    calls = []

    def full(path: Path) -> None:
        calls.append(path)
        if len(calls) == fails_at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "fsync", full)
    with pytest.raises(RunError, match=r"could not be written \(the disk is full\)") as error:
        save_pretrained(tmp_path / "out", GPTModel(TINY))
    assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


def test_writing_holds_no_second_copy_of_the_model(tmp_path: Path) -> None:
    model = GPTModel(GPTConfig(2000, 64, 128, 4, 8, 0.0, True))
    tracemalloc.start()
    try:
        save_pretrained(tmp_path / "out", model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * 4 * model.n_parameters
