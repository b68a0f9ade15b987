"""Checksums in the safetensors files that the package writes: damage to data or header never loads."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from training.small import small_model

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.checkpoint import save_model
from nanograd_gpt.weights import safetensors_file, write_safetensors
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.safetensors_file import MAX_HEADER, open_safetensors
from nanograd_gpt.weights.save import save_pretrained


def written(directory: Path, layout: str, dtype: type = np.float32) -> tuple[Path, GPTModel]:
    """A file in a layout, and its model."""
    model = small_model(3, dtype, qkv_bias=True)
    if layout == "Hugging Face":
        return save_pretrained(directory / "theirs", model) / "model.safetensors", model
    return save_model(directory / "model.safetensors", model, book=layout == "book"), model


@pytest.mark.parametrize("layout", ["own", "book", "Hugging Face"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_flipped_bit_of_the_data_is_never_loaded(
    tmp_path: Path, layout: str, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors_file, "CHUNK_BYTES", 500)
    path, model = written(tmp_path, layout, dtype)
    raw, random = path.read_bytes(), Random(1)
    for name, array in load_weights(path).state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name].astype(np.float32))
    stored = [array for name, array in open_safetensors(path)[0].items() if not name.endswith("mask")]  # not loaded
    places = [array.start + i for array in stored for i in range(np.dtype(dtype).itemsize * prod(array.shape))]
    for position in random.sample(places, 100):
        changed = bytearray(raw)
        changed[position] ^= 1 << random.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InputError, match="is damaged: the checksum of its data differs; use another copy"):
            load_weights(path)


@pytest.mark.parametrize("change", [("0.3", "0.4"), ('\\"n_heads\\": 2', '\\"n_heads\\": 4')], ids=["rate", "heads"])
def test_a_changed_configuration_in_the_header_is_never_loaded(tmp_path: Path, change: tuple[str, str]) -> None:
    path = save_model(tmp_path / "model.safetensors", small_model(drop_rate=0.3))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(*(text.encode() for text in change)))
    assert path.read_bytes() != raw
    with pytest.raises(InputError, match="the checksum of its header differs"):
        load_weights(path)


def test_another_tool_reads_the_file_and_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    path, model = written(tmp_path, "own")
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as opened:
        assert json.loads(opened.metadata()["config"]) == model.config.to_dict()
    assert all((arrays[name] == array).all() for name, array in model.state_dict().items())
    save_file(arrays, path, {"config": json.dumps(model.config.to_dict())})
    assert open_safetensors(path)[0]["tok_emb.weight"].checksum is None
    assert load_weights(path).config == model.config


@pytest.mark.parametrize("sums", ["", "x", "00000000", "0 0 0", "99999999999999999999"])
def test_checksums_that_are_none_are_refused(tmp_path: Path, sums: str) -> None:
    path, model = written(tmp_path, "own")
    save_file(load_file(path), path, {"config": json.dumps(model.config.to_dict()), "crc32": sums})
    with pytest.raises(InputError, match=r"its checksums are damaged|the checksum of its header differs"):
        load_weights(path)


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (save_model(tmp_path / f"{i}.safetensors", small_model(3)).read_bytes() for i in range(2))
    assert first == second


def test_a_header_above_the_limit_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(1 << 32)  # sparse
    with pytest.raises(InputError, match=r"its header of 8,388,609 bytes is above the limit of 8,388,608"):
        load_weights(path)
    monkeypatch.setattr(write_safetensors, "MAX_HEADER", 1000)
    with pytest.raises(InputError, match="its 18 arrays are more than a file can list"):
        save_model(path, small_model())
