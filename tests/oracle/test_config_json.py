"""Each key of transformers' GPT2Config with another value: refused here, or the same function as there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.weights.load import open_pretrained

from .closeness import assert_close

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 23, "n_positions": 9, "n_embd": 12, "n_head": 3, "n_layer": 2}
REFUSED = {
    "activation_function": "relu",
    "layer_norm_epsilon": 1e-2,
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": True,
    "add_cross_attention": True,
    "n_inner": 24,
    "tie_word_embeddings": False,  # as the weights in the file are tied, it has no head
    "model_type": "gpt_neo",
    "n_head": 12 * 5,
}
OTHERWISE: dict[str, Any] = {  # of the same function
    "activation_function": "gelu_pytorch_tanh",
    "n_inner": 48,
    "n_head": 4,
    "attn_pdrop": 0.9,
    "embd_pdrop": 0.9,
    "resid_pdrop": 0.9,
    "reorder_and_upcast_attn": True,
    "initializer_range": 9.0,
    "summary_type": "last",
    "summary_use_proj": False,
    "summary_activation": "tanh",
    "summary_proj_to_labels": False,
    "summary_first_dropout": 0.9,
    "use_cache": False,
    "bos_token_id": 3,
    "eos_token_id": 4,
    "pad_token_id": 5,
    "dtype": "float64",
    "chunk_size_feed_forward": 4,
    "is_encoder_decoder": False,
    "output_attentions": True,
    "output_hidden_states": True,
    "return_dict": True,
    "problem_type": "regression",
    "id2label": {"0": "a"},
    "label2id": {"a": 0},
    "architectures": ["GPT2Model"],
}
LEFT = {"transformers_version", "_name_or_path", "n_ctx", "n_positions", "n_embd", "n_layer", "vocab_size"}  # or sizes


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("theirs")
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, initializer_range=0.4)).save_pretrained(path)
    return path


@pytest.fixture
def configured(directory: Path) -> Iterator[Any]:
    """Writes config.json with one key changed, and puts the first one back."""
    file = directory / "config.json"
    before = file.read_text(encoding="utf-8")
    yield lambda **changes: file.write_text(json.dumps({**json.loads(before), **changes}), encoding="utf-8")
    file.write_text(before, encoding="utf-8")


def test_every_key_is_looked_at() -> None:
    known = REFUSED.keys() | OTHERWISE.keys() | LEFT
    assert sorted(transformers.GPT2Config().to_dict().keys() - known) == []


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_changes_the_function_is_refused(key: str, directory: Path, configured: Any) -> None:
    configured(**{key: REFUSED[key]})
    with pytest.raises(InputError, match="model: ") as error:
        open_pretrained(directory)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", OTHERWISE)
def test_another_key_gives_the_same_function_as_there(key: str, directory: Path, configured: Any) -> None:
    configured(**{key: OTHERWISE[key]})
    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 9))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(directory).double().eval()
    with torch.no_grad():
        logits = theirs(torch.tensor(ids), return_dict=True).logits.numpy()
    ours = open_pretrained(directory).load().to(dtype=np.float64)
    assert_close(ours(ids).data, logits, 1e-10, key)
