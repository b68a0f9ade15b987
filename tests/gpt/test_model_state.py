"""GPTModel's state: names, initialisation, loading and conversion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator

from .tiny import TINY, ids_of, one_line

BLOCK = [
    "att.W_query.weight",
    "att.W_key.weight",
    "att.W_value.weight",
    "att.out_proj.weight",
    "att.out_proj.bias",
    "ff.layers.0.weight",
    "ff.layers.0.bias",
    "ff.layers.2.weight",
    "ff.layers.2.bias",
    "norm1.scale",
    "norm1.shift",
    "norm2.scale",
    "norm2.shift",
]


# --- names, and how weights start


def test_names_are_the_books_in_pytorchs_order() -> None:
    expected = ["tok_emb.weight", "pos_emb.weight"]
    expected += [f"trf_blocks.{i}.{name}" for i in range(2) for name in BLOCK]
    expected += ["final_norm.scale", "final_norm.shift", "out_head.weight"]
    assert list(GPTModel(TINY).state_dict()) == expected


def test_qkv_bias_adds_a_bias_to_each_projection_and_nothing_else() -> None:
    without, with_bias = (GPTModel(replace(TINY, qkv_bias=b)) for b in (False, True))
    added = [name for name in with_bias.state_dict() if name not in without.state_dict()]
    assert added == [f"trf_blocks.{i}.att.W_{part}.bias" for i in range(2) for part in ("query", "key", "value")]
    assert with_bias.n_parameters - without.n_parameters == 2 * 3 * TINY.emb_dim


def test_the_books_mask_is_one_above_the_diagonal_and_comes_before_its_attention() -> None:
    book = GPTModel(TINY).book_state_dict()
    names = list(book)
    mask = book["trf_blocks.1.att.mask"]
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, np.triu(np.ones((6, 6)), k=1))
    assert names[names.index("trf_blocks.1.att.mask") + 1] == "trf_blocks.1.att.W_query.weight"


def test_weights_start_as_pytorchs_do() -> None:
    config = GPTConfig(vocab_size=500, context_length=64, emb_dim=64, n_heads=4, n_layers=1)
    state = GPTModel(config, rng=Generator(1)).state_dict()
    for name, array in state.items():
        assert array.dtype == np.float32
        if name.endswith("_emb.weight"):
            assert abs(array.mean()) < 0.05
            assert abs(array.std() - 1) < 0.05
        elif name.endswith("scale"):
            assert (array == 1).all()
        elif name.endswith("shift"):
            assert (array == 0).all()
        else:
            bound = 1 / np.sqrt(256 if name.startswith("trf_blocks.0.ff.layers.2") else 64)
            assert 0.9 * bound < np.abs(array).max() <= np.float32(bound)
            assert abs(array.std() / (bound / np.sqrt(3)) - 1) < 4 * np.sqrt(0.2 / array.size)  # 4 standard errors


def test_a_seed_decides_the_weights() -> None:
    first, again, other = (GPTModel(TINY, rng=Generator(seed)).state_dict() for seed in (7, 7, 8))
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["out_head.weight"] == other["out_head.weight"]).any()


def test_no_two_weight_matrices_start_alike() -> None:
    matrices = [a.ravel()[:8].tolist() for a in GPTModel(TINY).state_dict().values() if a.ndim == 2]
    assert len({tuple(m) for m in matrices}) == len(matrices)


def test_repr_shows_the_parts_by_name_and_shape() -> None:
    lines = repr(GPTModel(TINY)).splitlines()
    assert lines[0] == "GPTModel("
    assert lines[-1] == ")"
    assert lines[1] == "  (tok_emb): Embedding(23, 8)"
    assert "    (1): TransformerBlock(" in lines
    attention = lines.index("      (att): MultiHeadAttention(")
    assert lines[attention + 1] == f"        num_heads={TINY.n_heads}"
    assert lines[attention + 2].startswith("        (W_query): Linear(d_in=8, d_out=8, bias=")
    assert lines[-2] == "  (out_head): Linear(d_in=8, d_out=23, bias=False)"


# --- state


def test_a_loaded_state_gives_the_same_logits() -> None:
    source, target = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    ids = ids_of((2, 6))
    assert (source(ids).data != target(ids).data).any()
    target.load_state_dict(source.state_dict())
    np.testing.assert_array_equal(source(ids).data, target(ids).data)


def test_loading_copies_so_that_two_models_stay_apart() -> None:
    source, target = GPTModel(TINY, rng=Generator(1)), GPTModel(TINY, rng=Generator(2))
    target.load_state_dict(source.state_dict())
    before = target.out_head.weight.data.copy()
    source.out_head.weight.data += 1
    np.testing.assert_array_equal(target.out_head.weight.data, before)


def test_the_books_state_loads_and_its_masks_are_passed_over() -> None:
    source, target = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    target.load_state_dict(source.book_state_dict())
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_head.weight": None}, "state_dict: out_head.weight (23, 8) is missing"),
        (
            {"out_head.weight": np.zeros((24, 8))},
            "state_dict: out_head.weight has shape (24, 8), this model's is (23, 8)",
        ),
        ({"extra": np.zeros((1, 2))}, "state_dict: extra (1, 2) is not a part of this model"),
        (
            {"out_head.weight": np.zeros((23, 8), dtype=np.int64)},
            "state_dict: out_head.weight has dtype int64; expected floating-point numbers",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any], message: str) -> None:
    model, other = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    before = {name: a.copy() for name, a in model.state_dict().items()}
    state = {name: a for name, a in (other.state_dict() | change).items() if a is not None}
    with pytest.raises(InputError) as error:
        model.load_state_dict(state)
    assert one_line(error) == message
    assert all((model.state_dict()[name] == a).all() for name, a in before.items())


def test_to_a_dtype_keeps_the_values_and_computes_in_it() -> None:
    model, ids = GPTModel(TINY), ids_of((2, 6))
    single = model(ids).data
    assert model.to(dtype=np.float64) is model
    double = model(ids).data
    assert {a.dtype for a in model.state_dict().values()} == {np.dtype(np.float64)}
    assert double.dtype == np.float64
    assert np.linalg.norm(double - single) < 1e-6 * np.linalg.norm(double)
