"""Hugging Face's config.json: three dropout rates for one drop_rate; single files and shards."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt.tiny import one_line
from safetensors.numpy import load_file, save_file

from nanograd_gpt.errors import InputError
from nanograd_gpt.weights.load import load_weights, open_pretrained

from .layouts import arrays_changed, computes_the_golden, copied

RATES = {"resid_pdrop": 0.1, "embd_pdrop": 0.0, "attn_pdrop": 0.2}


def configured(tmp_path: Path, **settings: Any) -> Path:
    """The stored model with changed settings in config.json; None removes one."""
    directory = copied("tied", tmp_path)
    file = directory / "config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), **settings}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}), encoding="utf-8")
    return directory


# --- dropout


def test_several_dropout_rates_are_warned_of_and_one_may_be_given(tmp_path: Path) -> None:
    directory = configured(tmp_path, **RATES)
    said = "config.json has resid_pdrop 0.1, embd_pdrop 0.0, attn_pdrop 0.2, and a model here one .*; give drop_rate"
    with pytest.warns(UserWarning, match=said) as caught:
        model = load_weights(directory)
    assert caught[0].filename == __file__
    assert model.config.drop_rate == 0.1
    computes_the_golden(model, "tied")
    assert open_pretrained(directory).rates == RATES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_weights(directory, drop_rate=0.3).config.drop_rate == 0.3
        assert load_weights(directory / "model.safetensors", drop_rate=0.0).config.drop_rate == 0.0


@pytest.mark.parametrize(
    ("rates", "differ"),
    [
        (dict.fromkeys(RATES, 0.3), False),
        (dict.fromkeys(RATES), False),
        ({"resid_pdrop": None}, False),  # what is not said is 0.1, as in the stored file
        ({"attn_pdrop": 0.0}, True),
        ({"resid_pdrop": 0.2, "embd_pdrop": None}, True),
    ],
)
def test_a_rate_that_is_not_said_counts_as_hugging_faces_default(
    rates: dict[str, Any], differ: bool, tmp_path: Path
) -> None:
    opened = open_pretrained(configured(tmp_path, **rates))
    assert bool(opened.rates) is differ
    assert opened.config.drop_rate == (rates.get("resid_pdrop") or 0.1)


def test_a_rate_given_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"drop_rate: 1\.5 is not allowed") as error:
        load_weights(copied("tied", tmp_path), drop_rate=1.5)
    one_line(error)


def test_a_rate_may_be_given_for_every_layout(tmp_path: Path) -> None:
    goldens = Path(__file__).parents[1] / "goldens"
    assert load_weights(goldens / "gpt2_tf", drop_rate=0.4).config.drop_rate == 0.4


# --- the single file, and shards


def test_of_a_single_file_and_an_index_the_single_file_is_taken(tmp_path: Path) -> None:
    directory = copied("tied", tmp_path)
    arrays = load_file(directory / "model.safetensors")
    save_file({name: np.zeros_like(array) for name, array in arrays.items()}, directory / "shard.safetensors")
    index = {"weight_map": dict.fromkeys(arrays, "shard.safetensors")}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    computes_the_golden(load_weights(directory), "tied")
    (directory / "model.safetensors").unlink()
    assert not load_weights(directory).tok_emb.weight.data.any()


def test_a_damaged_index_beside_the_single_file_is_not_looked_at(tmp_path: Path) -> None:
    directory = copied("tied", tmp_path)
    (directory / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    computes_the_golden(load_weights(directory), "tied")


def test_a_damaged_single_file_is_told_of_though_there_is_an_index(tmp_path: Path) -> None:
    directory = arrays_changed(copied("tied", tmp_path), lambda arrays: arrays.pop("transformer.ln_f.bias"))
    shutil.copy(Path(__file__).parents[1] / "goldens" / "gpt2_tied" / "model.safetensors", directory / "a.safetensors")
    names = load_file(directory / "a.safetensors")
    index = {"weight_map": dict.fromkeys(names, "a.safetensors")}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match=r"ln_f\.bias \(12,\) is missing"):
        load_weights(directory)
