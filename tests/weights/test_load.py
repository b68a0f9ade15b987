"""GPT-2's weights as transformers save them: their logits, and invalid files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt.tiny import TINY, ids_of
from safetensors.numpy import load_file, save_file

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.checkpoint import save_model
from nanograd_gpt.weights import safetensors_file as stored
from nanograd_gpt.weights.load import load_weights, open_pretrained

from .layouts import CASES, GOLDENS, Arrays, arrays_changed, computes_the_golden, copied, refusal


def renamed(arrays: Arrays, name: Callable[[str], str]) -> None:
    old = dict(arrays)
    arrays.clear()
    arrays.update({name(n): a for n, a in old.items()})


def config_changed(directory: Path, **changes: Any) -> Path:
    file = directory / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({n: v for n, v in config.items() if v != "left out"}), encoding="utf-8")
    return directory


# --- what they compute


@pytest.mark.parametrize("name", CASES)
def test_logits_and_loss_equal_transformers(name: str) -> None:
    model = load_weights(GOLDENS / f"gpt2_{name}")
    assert not model.training
    assert model.config.qkv_bias
    assert model.config.tied_head is (name != "apart")
    computes_the_golden(model, name)


@pytest.mark.parametrize("name", CASES)
def test_without_the_prefix_with_old_buffers_and_with_a_head_that_is_tied_they_are_the_same(
    name: str, tmp_path: Path
) -> None:
    def change(arrays: Arrays) -> None:
        renamed(arrays, lambda n: n.removeprefix("transformer."))
        arrays["h.0.attn.bias"] = np.ones((1, 1, 8, 8), dtype=np.uint8)
        arrays["h.0.attn.masked_bias"] = np.float32([-1e4])
        arrays.setdefault("lm_head.weight", arrays["wte.weight"].copy())

    computes_the_golden(load_weights(arrays_changed(copied(name, tmp_path), change)), name)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_read(dtype: Any, tmp_path: Path) -> None:
    def change(arrays: Arrays) -> None:
        arrays.update({n: a.astype(dtype) for n, a in arrays.items()})

    expected = load_weights(GOLDENS / "gpt2_tied").state_dict()
    for name, array in load_weights(arrays_changed(copied("tied", tmp_path), change)).state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name].astype(dtype))


def test_a_few_rows_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "CHUNK_BYTES", 300)
    computes_the_golden(load_weights(GOLDENS / "gpt2_tied"), "tied")


@pytest.mark.parametrize("name", ["tied", "apart"])
def test_without_a_configuration_shapes_tell_all_but_the_heads(name: str, tmp_path: Path) -> None:
    directory = copied(name, tmp_path)
    expected = load_weights(directory).config
    (directory / "config.json").unlink()
    file = directory / "model.safetensors"
    assert load_weights(file, n_heads=expected.n_heads).config == expected
    assert f"{file} does not say its n_heads" in refusal(file)


def test_a_loaded_head_is_one_parameter_and_goes_on_training() -> None:
    model = load_weights(GOLDENS / "gpt2_tied").train()
    assert model.out_head.weight is model.tok_emb.weight
    ids = ids_of((2, 6), model.config)
    model.loss(ids, ids).backward()
    assert np.isfinite(model.tok_emb.weight.grad).all()
    assert (model.drop_emb.keep_mask(np.empty(0), (50, 50)) == 0).any()  # dropout draws


# --- our own names


@pytest.mark.parametrize("config", [TINY, GPTConfig(23, 6, 8, 2, 2, 0.0, True, True)], ids=["plain", "tied"])
@pytest.mark.parametrize("book", [False, True])
def test_a_model_file_loads_with_its_configuration_or_without(tmp_path: Path, config: GPTConfig, book: bool) -> None:
    model = GPTModel(config, rng=Generator(1))
    path = save_model(tmp_path / "model.safetensors", model, book=book)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(path), bare)
    for loaded in (load_weights(path), load_weights(bare, n_heads=2)):
        assert loaded.config.n_heads == 2
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(loaded.state_dict()[name], array)


# --- files that are not what they should be

QKV = "transformer.h.1.attn.c_attn.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.pop(QKV), "h.1.attn.c_attn.weight (12, 36) is missing"),
        (lambda a: a.update({QKV: a[QKV].T}), "h.1.attn.c_attn.weight has shape (36, 12), expected (12, 36)"),
        (lambda a: a.update({QKV: a[QKV].astype(np.int32)}), "h.1.attn.c_attn.weight has dtype I32"),
        (lambda a: a.update(more=np.zeros((2, 3))), "more (2, 3) is not a part of this model"),
        (lambda a: a.update({"lm_head.weight": np.zeros((29, 12))}), "lm_head.weight differs from wte.weight"),
        (lambda a: a.pop("transformer.wte.weight"), "neither tok_emb.weight nor wte.weight"),
        (lambda a: a.update({"ln_f.bias": np.zeros(12)}), "has both ln_f.bias and transformer.ln_f.bias"),
        (lambda a: a.update({QKV: a[QKV].astype(np.complex64)}), "h.1.attn.c_attn.weight has dtype C64"),
        (lambda a: a.update({QKV: a[QKV].ravel()}), "h.1.attn.c_attn.weight has shape (432,), expected (12, 36)"),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path: Path, change: Callable[[Arrays], object], says: str) -> None:
    directory = arrays_changed(copied("tied", tmp_path), change)
    message = refusal(directory)
    assert message.startswith(f"model: {directory / 'model.safetensors'}")
    assert says in message
    with pytest.raises(InputError):
        open_pretrained(directory)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activation_function": "gelu"}, "unsupported activation_function 'gelu'"),
        ({"activation_function": "relu"}, "unsupported activation_function 'relu'"),
        ({"layer_norm_epsilon": 1e-6}, "unsupported layer_norm_epsilon 1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, "unsupported scale_attn_by_inverse_layer_idx True"),
        ({"model_type": "llama"}, "unsupported model_type 'llama'"),
        ({"n_inner": 7}, "unsupported n_inner 7"),
        ({"n_layer": 3}, "h.2.attn.c_attn.weight (12, 36) is missing"),
        ({"n_layer": 10**8}, "expected 100000000 layers, and the file has only 28 arrays"),
        ({"vocab_size": 10**9}, "wte.weight has shape (29, 12), expected (1000000000, 12)"),
        ({"n_positions": 10**9}, "wpe.weight has shape (8, 12), expected (1000000000, 12)"),
        ({"n_layer": "2"}, "n_layers: '2' is not allowed"),
        ({"n_layer": 1}, "is not a part of this model"),
        ({"n_embd": 24}, "wte.weight has shape (29, 12), expected (29, 24)"),
        ({"n_head": 5}, "n_heads: 5 does not divide emb_dim = 12"),
        ({"n_head": "left out"}, "has no 'n_head'"),
        ({"tie_word_embeddings": False}, "lm_head.weight (29, 12) is missing"),
    ],
    ids=str,
)
def test_an_unsupported_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    directory = config_changed(copied("tied", tmp_path), **changes)
    message = refusal(directory)
    assert says in message
    assert message.startswith(f"model: {directory}")


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "[" * 100_000], ids=["empty", "list", "cut", "number", "deep"])
def test_a_configuration_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    directory = copied("deep", tmp_path)
    (directory / "config.json").write_text(text, encoding="utf-8")
    assert str(directory / "config.json") in refusal(directory)
