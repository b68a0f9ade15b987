"""Arrays in safetensors files: bfloat16, shards, and truncated, damaged or foreign files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nanograd_gpt.errors import InputError
from nanograd_gpt.weights import safetensors_file as stored
from nanograd_gpt.weights.load import is_pretrained, load_weights
from nanograd_gpt.weights.safetensors_file import open_safetensors

from .layouts import GOLDENS, computes_the_golden, copied, refusal

INDEX = "model.safetensors.index.json"


def read(file: Path) -> tuple[dict[str, Any], bytes]:
    """Split a file into its header and its data."""
    raw = file.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write(file: Path, header: dict[str, Any] | bytes, numbers: bytes, padding: int = 0) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode() + b" " * padding
    file.write_bytes(struct.pack("<Q", len(text)) + text + numbers)


# --- reading


def test_rows_are_those_of_safetensors_own_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "CHUNK_BYTES", 300)
    file = GOLDENS / "gpt2_tied" / "model.safetensors"
    arrays, _ = open_safetensors(file)
    expected = load_file(file)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.shape == expected[name].shape
        np.testing.assert_array_equal(array[:], expected[name])
        np.testing.assert_array_equal(array[2:5], expected[name][2:5])
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in stored.row_chunks(array)]), expected[name])


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    directory = copied("tied", tmp_path)
    file, expected = directory / "model.safetensors", load_weights(directory)
    arrays, header, numbers = load_file(file), {}, b""
    for name, array in arrays.items():
        upper = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": array.shape,
            "data_offsets": [len(numbers), len(numbers) + len(upper)],
        }
        numbers += upper
    write(file, header, numbers)
    for name, array in load_weights(directory).state_dict().items():
        cut = (expected.state_dict()[name].view(np.uint32) >> 16 << 16).view(np.float32)
        np.testing.assert_array_equal(array, cut)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_header_whose_length_begins_as_a_pickle_does_is_read(tmp_path: Path, protocol: int) -> None:
    directory = copied("deep", tmp_path)
    file = directory / "model.safetensors"
    header, numbers = read(file)
    length = 0x80 + (protocol << 8) + 0x2000  # so that the file's first two bytes are \x80 and the protocol
    write(file, header, numbers, padding=length - len(json.dumps(header)))
    assert file.read_bytes().startswith(bytes([0x80]))
    computes_the_golden(load_weights(directory), "deep")


# --- several files


def sharded(tmp_path: Path) -> Path:
    directory = copied("tied", tmp_path)
    whole = directory / "model.safetensors"
    arrays = load_file(whole)
    whole.unlink()
    names = sorted(arrays)
    parts = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
    for part, its in parts.items():
        save_file({name: arrays[name] for name in its}, directory / part)
    weight_map = {name: part for part, its in parts.items() for name in its}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return directory


def test_several_files_are_one_model(tmp_path: Path) -> None:
    directory = sharded(tmp_path)
    assert is_pretrained(directory)
    computes_the_golden(load_weights(directory), "tied")


def test_a_file_that_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    directory = sharded(tmp_path)
    part = directory / "model-00002-of-00003.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    assert refusal(directory).startswith(f"model: {part} is not a safetensors file, or is truncated or damaged")
    part.unlink()
    assert refusal(directory).startswith(f"model: {part} does not exist")


def test_an_array_in_two_files_is_named(tmp_path: Path) -> None:
    directory = sharded(tmp_path)
    part = directory / "model-00003-of-00003.safetensors"
    save_file(load_file(part) | {"transformer.ln_f.bias": np.zeros(12, np.float32)}, part)
    first = directory / "model-00001-of-00003.safetensors"
    save_file(load_file(first) | {"transformer.ln_f.bias": np.zeros(12, np.float32)}, first)
    assert "transformer.ln_f.bias is in two files" in refusal(directory)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "3", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": "../model.safetensors"}}'],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text, encoding="utf-8")
    assert refusal(tmp_path).startswith(f"model: {tmp_path / INDEX} ")


# --- files that are not what they should be


@pytest.mark.parametrize("keep", [0, 1, 4, 7, 8, 9, 100, 3000, -4, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = copied("deep", tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert refusal(file.parent).startswith(f"model: {file} is not a safetensors file, or is truncated or damaged")


def test_a_file_with_more_behind_it_is_refused(tmp_path: Path) -> None:
    file = copied("deep", tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"more")
    assert str(file) in refusal(file.parent)


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = copied("deep", tmp_path) / "model.safetensors"
    arrays, _ = open_safetensors(file)
    file.write_bytes(file.read_bytes()[:-8])
    last = max(arrays.values(), key=lambda array: array.start)
    with pytest.raises(InputError, match="was truncated while it was read") as error:
        last[:]
    assert str(file) in str(error.value)


WTE = "transformer.wte.weight"


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [11, 5]},
        {"shape": [-11, -4]},
        {"shape": [2**63, 4]},
        {"shape": "11"},
        {"dtype": "F64"},
        {"dtype": "F7"},
        {"dtype": None},
        {"data_offsets": [0, 10**12]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0]},
        {"data_offsets": None},
    ],
    ids=str,
)
def test_an_entry_that_does_not_fit_its_bytes_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    file = copied("deep", tmp_path) / "model.safetensors"
    header, numbers = read(file)
    header[WTE] |= change
    write(file, header, numbers)
    assert refusal(file.parent).startswith(f"model: {file} is not a safetensors file, or is truncated or damaged")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"\xff": {}}',
        b"[" * 100_000,
        b'{"__metadata__": 3}',
    ],
    ids=["empty", "cut", "list", "number", "null", "entry", "bare", "not UTF-8", "deep", "metadata"],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    write(file, header, b"\0" * 64)
    assert refusal(file).startswith(f"model: {file} is not a safetensors file, or is truncated or damaged")


@pytest.mark.parametrize("header", [b"{}", b'{"__metadata__": {}}'])
def test_a_file_without_arrays_is_no_model(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    write(file, header, b"")
    assert "neither tok_emb.weight nor wte.weight" in refusal(file)


def test_no_flipped_bit_of_a_header_gives_another_model(tmp_path: Path) -> None:
    """Metadata other than names, shapes and offsets may change, since nothing is computed from it."""
    directory = copied("deep", tmp_path)
    file = directory / "model.safetensors"
    raw, expected = file.read_bytes(), load_weights(directory).state_dict()
    (size,) = struct.unpack("<Q", raw[:8])
    messages = []
    positions = range(0, 8 + size, 5)
    for position in positions:
        changed = bytearray(raw)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        try:
            found = load_weights(directory).state_dict()
        except InputError as error:
            messages.append(str(error))
        else:
            assert all((found[name] == array).all() for name, array in expected.items())
    assert len(messages) > 0.9 * len(positions)
    assert all(str(file) in message and "\n" not in message for message in messages)


@pytest.mark.parametrize("begins", [b"PK\x03\x04rest", b"\x80\x02rest", b"\x80\x04\x95" + bytes(20)], ids=str)
@pytest.mark.parametrize("name", ["model.pth", "pytorch_model.bin", "model.pt", "model.safetensors"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path, begins: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(begins)
    message = refusal(path)
    assert message.startswith(f"model: {path} is a pickle")
    assert "safetensors.torch.save_file(torch.load(FILE, weights_only=True)" in message


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    assert "model.safetensors does not exist" in refusal(tmp_path)
