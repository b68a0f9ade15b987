"""OpenAI's TensorFlow checkpoint read with NumPy; TensorFlow wrote the fixture and computed the goldens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt.tiny import ids_of, one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.weights.crc32c import CHUNK, crc32c
from nanograd_gpt.weights.gpt2_names import from_openai
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.tf_checkpoint import open_tf_checkpoint

from .tf_files import openai_name, write_index, write_openai, write_tf_checkpoint

FIXTURE = Path(__file__).parents[1] / "goldens" / "gpt2_tf"
DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "tf"))


def refusal(directory: Path) -> str:
    with pytest.raises(InputError) as error:
        load_weights(directory)
    return one_line(error)


def contents(directory: Path) -> dict[str, Any]:
    return {name: array[:] for name, array in open_tf_checkpoint(directory / "model.ckpt").items()}


# --- checksums


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"a", 0xC1D04330),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this one and the next: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums_are_the_published_ones(data: bytes, expected: int) -> None:
    assert crc32c(np.frombuffer(data, dtype=np.uint8)) == expected


@pytest.mark.parametrize("n", [1023, 1024, 1025, 5000, CHUNK + 3, CHUNK + 4])
def test_long_checksums_are_those_of_one_byte_after_the_other(n: int) -> None:
    data = np.random.default_rng(n).integers(0, 256, n, dtype=np.uint8)
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    register = 0xFFFFFFFF
    for byte in data.tolist():
        register = table[(register ^ byte) & 255] ^ register >> 8
    assert crc32c(data) == register ^ 0xFFFFFFFF


# --- tensors


def test_every_tensor_is_as_tensorflow_reads_it() -> None:
    arrays = open_tf_checkpoint(FIXTURE / "model.ckpt")
    with np.load(FIXTURE / "tensors.npz", allow_pickle=False) as file:
        golden = dict(file)
    assert sorted(arrays) == golden["names"].tolist()
    for name, shape, ends in zip(golden["names"], golden["shapes"], golden["ends"], strict=True):
        array = arrays[name][:]
        assert array.dtype == np.float32
        assert list(array.shape) == [n for n in shape if n]
        flat = array.ravel()
        np.testing.assert_array_equal([flat[0], flat[1], flat[len(flat) // 2], flat[-1]], ends[:4])
        np.testing.assert_allclose(flat.sum(dtype=np.float64), ends[4], rtol=1e-12)


def test_the_model_has_each_in_its_place() -> None:
    arrays, model = open_tf_checkpoint(FIXTURE / "model.ckpt"), load_weights(FIXTURE)
    state, C = model.state_dict(), model.config.emb_dim
    hparams = json.loads((FIXTURE / "hparams.json").read_text(encoding="utf-8"))
    assert model.config.n_heads == hparams["n_head"]
    assert model.out_head.weight is model.tok_emb.weight
    np.testing.assert_array_equal(state["tok_emb.weight"], arrays["model/wte"][:])
    np.testing.assert_array_equal(
        state["trf_blocks.1.att.W_key.weight"], arrays["model/h1/attn/c_attn/w"][:][0, :, C : 2 * C].T
    )
    np.testing.assert_array_equal(state["trf_blocks.0.ff.layers.0.bias"], arrays["model/h0/mlp/c_fc/b"][:])
    assert np.isfinite(model(ids_of((1, 8), model.config)).data).all()


def test_names_are_translated() -> None:
    assert from_openai("model/h11/attn/c_attn/w") == "h.11.attn.c_attn.weight"
    assert from_openai("model/ln_f/g") == "ln_f.weight"
    assert from_openai("model/wpe") == "wpe.weight"
    for name in ("h.11.attn.c_attn.weight", "h.0.ln_1.weight", "h.3.mlp.c_proj.bias", "ln_f.bias", "wte.weight"):
        assert from_openai(openai_name(name)) == name


def test_a_checkpoint_written_again_loads_as_the_same_model(copied: Path, tmp_path: Path) -> None:
    model = load_weights(copied)
    write_openai(tmp_path / "again", model)
    again = load_weights(tmp_path / "again")
    assert again.config == model.config
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


# --- files that are not what they should be


@pytest.mark.parametrize("name", [DATA, INDEX])
@pytest.mark.parametrize("how", ["missing", "empty", "cut"])
def test_a_missing_or_cut_file_is_named(copied: Path, name: str, how: str) -> None:
    file = copied / name
    raw = file.read_bytes()
    file.unlink()
    if how != "missing":
        file.write_bytes(b"" if how == "empty" else raw[: len(raw) // 2])
    assert refusal(copied).startswith(f"model: {file}")


@pytest.mark.slow
def test_any_flipped_bit_of_the_index_is_noticed(copied: Path) -> None:
    file = copied / INDEX
    raw = file.read_bytes()
    expected = contents(copied)
    for position in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        try:
            found = contents(copied)
        except InputError as error:
            message = str(error)
        else:  # what is never read may change: padding, and where the statistics are
            assert found.keys() == expected.keys()
            assert all((found[name] == expected[name]).all() for name in found)
            continue
        assert str(file.parent) in message


@pytest.mark.parametrize("position", [0, 1000, 57_601, 200_003, -1])
def test_a_flipped_bit_of_the_data_is_noticed_and_its_tensor_named(copied: Path, position: int) -> None:
    file = copied / DATA
    raw = bytearray(file.read_bytes())
    raw[position] ^= 16
    file.write_bytes(raw)
    message = refusal(copied)
    assert message.startswith(f"model: {file}: model/")
    assert "is damaged: its checksum differs" in message


@pytest.mark.parametrize(
    ("hparams", "says"),
    [
        ("{", "is not JSON"),
        ('{"n_vocab": 300}', "has no 'n_ctx'"),
        ('{"n_vocab": 301, "n_ctx": 32, "n_embd": 48, "n_head": 4, "n_layer": 2}', "wte.weight has shape (300, 48)"),
        ('{"n_vocab": 300, "n_ctx": 32, "n_embd": 48, "n_head": 4, "n_layer": 3}', "h.2.attn.c_attn.weight (48, 144)"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(copied: Path, hparams: str, says: str) -> None:
    (copied / "hparams.json").write_text(hparams, encoding="utf-8")
    assert says in refusal(copied)


WPE, QKV, BIAS = "model/wpe", "model/h1/attn/c_attn/w", "model/h0/mlp/c_fc/b"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.pop(QKV), "h.1.attn.c_attn.weight (48, 144) is missing"),
        (
            lambda a: a.update({QKV: a[QKV].swapaxes(1, 2)}),
            "h.1.attn.c_attn.weight has shape (144, 48), expected (48, 144)",
        ),
        (lambda a: a.update({WPE: a[WPE][:-1]}), "wpe.weight has shape (31, 48), expected (32, 48)"),
        (
            lambda a: a.update({BIAS: a[BIAS].astype(np.int32)}),
            "h.0.mlp.c_fc.bias has dtype I32; supported are F16, BF16, F32, F64",
        ),
        (lambda a: a.update({BIAS: a[BIAS].astype(np.int64)}), "h.0.mlp.c_fc.bias has dtype I64"),
        (lambda a: a.update({BIAS: a[BIAS].astype(bool)}), f"{BIAS} has TensorFlow's type 0"),
        (lambda a: a.update({"global_step": np.zeros((), np.int64)}), "global_step () is not a part of this model"),
        (lambda a: a.update({"model/h2/ln_1/g": np.ones(48, np.float32)}), "h.2.ln_1.weight (48,) is not a part"),
    ],
)
def test_an_array_that_does_not_fit_is_named(copied: Path, change: Callable[[Any], object], says: str) -> None:
    arrays = contents(copied)
    change(arrays)
    write_tf_checkpoint(copied / "model.ckpt", arrays)
    message = refusal(copied)
    assert message.startswith(f"model: {copied}")
    assert says in message


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_read(copied: Path, dtype: Any) -> None:
    expected = load_weights(copied).state_dict()
    write_tf_checkpoint(copied / "model.ckpt", {n: a.astype(dtype) for n, a in contents(copied).items()})
    for name, array in load_weights(copied).state_dict().items():
        np.testing.assert_array_equal(array, expected[name].astype(dtype).astype(np.float32))


@pytest.mark.parametrize("place", [0, 300, -45, -8, -1])  # of the last 48 bytes, some are padding
def test_an_index_of_another_kind_is_refused(copied: Path, place: int) -> None:
    file = copied / INDEX
    raw = bytearray(file.read_bytes())
    raw[place] ^= 255
    file.write_bytes(raw)
    assert refusal(copied).startswith(f"model: {file} is not an index of a TensorFlow checkpoint, or is damaged")


ENTRY = b"\x08\x01\x12\x04\x12\x02\x08\x30(\xc0\x01"  # float32 (48,), 192 bytes


@pytest.mark.parametrize(
    ("header", "entry"),
    [
        (None, ENTRY),
        (b"\x08\x01\x10\x01", ENTRY),  # the highest byte first
        (b"\x0a\x01a", ENTRY),  # as many data files as "a"
        (b"\x08\x01", ENTRY[:-1]),
        (b"\x08\x01", ENTRY + b"\x07"),
        (b"\x08\x01", ENTRY + b"\x22\x01a"),  # it begins at "a"
        (b"\x08\x01", b"\x08\x01\x10\x05"),  # its shape is a number
        (b"\x08\x01", b"\x08\x01\x12\x05\x12\x03\x0a\x01a"),  # and one of its sizes is text
        (b"\x08\x01", ENTRY + b"\xff" * 30),
        (b"\x08\xff\xff\xff\xff\x0f", ENTRY),  # 4 billion data files
        (b"\x08\x00", ENTRY),  # none
        (b"\x08\x01", ENTRY + b"\x22\x09a"),  # a field that ends behind its message
        (b"\x08\x01", b"\x08\x01\x12\x24" + b"\x12\x02\x08\x01" * 9),  # nine axes
    ],
)
def test_an_index_that_is_sound_but_makes_no_sense_is_refused(copied: Path, header: bytes | None, entry: bytes) -> None:
    pairs = {"model/wte": entry} if header is None else {"": header, "model/wte": entry}
    write_index(copied / "model.ckpt", pairs)
    assert refusal(copied).startswith(
        f"model: {copied / INDEX} is not an index of a TensorFlow checkpoint, or is damaged"
    )


def test_one_array_under_two_names_is_refused(copied: Path) -> None:
    arrays = contents(copied)
    write_tf_checkpoint(copied / "model.ckpt", {**arrays, "wte": arrays["model/wte"]})
    assert refusal(copied).endswith("has an array twice under two names; download it again")


def test_a_tensor_that_reaches_beyond_the_data_is_named(copied: Path) -> None:
    write_index(copied / "model.ckpt", {"": b"\x08\x01", "model/wte": ENTRY + b"\x20" + b"\xff" * 8 + b"\x7f"})
    assert (
        refusal(copied) == f"model: {copied / DATA}: model/wte (48,) is truncated or damaged; download the file again"
    )
