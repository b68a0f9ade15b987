"""GPTConfig: presets' sizes, refused values, and the dictionary form."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPT2_NAMES, GPT_CONFIG_124M, PRESETS, GPTConfig, parameter_shapes, preset_name
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.weights.hub import GPT2

from .tiny import TINY, one_line


class OneForAll(Generator):
    """Stream of broadcast arrays, which store one number each: a model of any size needs no memory."""

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> npt.NDArray[Any]:
        return np.broadcast_to(np.float32(low), shape)

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return np.broadcast_to(np.float32(0), shape)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave parameters where they are: packed, each number would take memory."""
    monkeypatch.setattr("nanograd_gpt.gpt.model.pack_contiguous", lambda parameters: None)


# --- sizes


@pytest.mark.usefixtures("unpacked")
@pytest.mark.parametrize(
    ("preset", "context_length", "parameters"),
    [
        ("gpt2-124m", 256, 162_419_712),
        ("gpt2-124m", 1024, 163_009_536),
        ("gpt2-355m", 1024, 406_212_608),
        ("gpt2-774m", 1024, 838_220_800),
        ("gpt2-1558m", 1024, 1_637_792_000),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset: str, context_length: int, parameters: int) -> None:
    # The book counts GPT-2 with its head apart: OpenAI's number, and vocabulary x width once more.
    model = GPTModel(replace(PRESETS[preset], context_length=context_length), rng=OneForAll())
    assert model.n_parameters == parameters


@pytest.mark.usefixtures("unpacked")
def test_with_a_tied_head_124m_has_openais_number_of_parameters() -> None:
    config = replace(PRESETS["gpt2-124m"], context_length=1024, qkv_bias=True, tied_head=True)
    assert config.n_parameters == GPTModel(config, rng=OneForAll()).n_parameters == 124_439_808


def test_the_documents_configuration_is_124m_at_a_context_of_256() -> None:
    assert GPT_CONFIG_124M == {
        "vocab_size": 50257,
        "context_length": 256,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": False,
        "tied_head": False,
    }
    assert GPTConfig.of(GPT_CONFIG_124M) == PRESETS["gpt2-124m"]


@pytest.mark.usefixtures("unpacked")
def test_124m_has_173_entries_with_the_books_masks_and_161_without() -> None:
    model = GPTModel(GPT_CONFIG_124M, rng=OneForAll())
    book = model.book_state_dict()
    assert len(book) == 173
    assert len(model.state_dict()) == 161
    assert [name for name in book if name not in model.state_dict()] == [f"trf_blocks.{i}.att.mask" for i in range(12)]


# --- what the configuration refuses


@pytest.mark.parametrize("name", ["vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "12", None])
def test_a_size_that_is_no_whole_number_above_0_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError) as error:
        GPTConfig.of(TINY.to_dict() | {name: value})
    assert one_line(error) == f"{name}: {value!r} is not allowed; choose a whole number >= 1"


def test_an_emb_dim_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(InputError) as error:
        replace(TINY, emb_dim=10, n_heads=3)
    assert one_line(error) == "n_heads: 3 does not divide emb_dim = 10; choose 2 or 5, or emb_dim 9 or 12"


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_drop_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(InputError) as error:
        replace(TINY, drop_rate=rate)
    assert one_line(error) == f"drop_rate: {rate} is not allowed; choose a number in [0, 1)"


@pytest.mark.parametrize(
    ("name", "value"), [("drop_rate", "0.1"), ("drop_rate", None), ("qkv_bias", "no"), ("tied_head", 1)]
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: ") as error:
        GPTConfig.of(TINY.to_dict() | {name: value})
    assert repr(value).strip("'") in one_line(error)


@pytest.mark.parametrize("rate", [0, 0.0, 0.5, 0.999])
def test_a_drop_rate_of_0_to_below_1_is_allowed(rate: float) -> None:
    assert replace(TINY, drop_rate=rate).drop_rate == rate


def test_an_unknown_key_is_refused_with_the_likely_one() -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY.to_dict() | {"n_head": 2})
    assert one_line(error) == "model configuration: 'n_head' is unknown; did you mean 'n_heads'?"


def test_an_unknown_key_that_resembles_none_is_refused_with_all_there_are() -> None:
    with pytest.raises(InputError) as error:
        GPTConfig.of({"zzz": 2})
    assert one_line(error) == (
        "model configuration: 'zzz' is unknown; choose one of "
        "vocab_size, context_length, emb_dim, n_heads, n_layers, drop_rate, qkv_bias, tied_head"
    )


def test_a_configuration_survives_its_dictionary() -> None:
    assert GPTConfig.of(TINY.to_dict()) == TINY
    assert GPTConfig.of(TINY) is TINY


@pytest.mark.parametrize("settings", [{}, {"qkv_bias": True}, {"tied_head": True}, {"qkv_bias": True, "n_layers": 3}])
def test_the_shapes_of_parameters_are_known_without_a_model(settings: dict[str, Any]) -> None:
    sizes = {"vocab_size": 11, "context_length": 6, "emb_dim": 8, "n_heads": 2, "n_layers": 2}
    config = GPTConfig(**{**sizes, **settings})
    model = GPTModel(config)
    assert list(parameter_shapes(config).items()) == [(name, p.shape) for name, p in model.named_parameters()]
    assert config.n_parameters == model.n_parameters


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("tiny", "tiny"), ("tales", "tales"), ("gpt2", "gpt2-124m"), ("gpt2-small", "gpt2-124m"),
        ("gpt2-124m", "gpt2-124m"),
        ("gpt2-124M", "gpt2-124m"), ("GPT2-XL", "gpt2-1558m"), ("gpt2-1558m", "gpt2-1558m"),
        ("gpt2-medium", "gpt2-355m"), ("gpt2-355m", "gpt2-355m"), ("gpt2-large", "gpt2-774m"),
        ("gpt2-774m", "gpt2-774m"),
    ],
)  # fmt: skip
def test_a_size_has_several_names(name: str, preset: str) -> None:
    assert preset_name(name) == preset


def test_every_gpt2_preset_has_the_name_of_its_weights() -> None:
    assert {name: others[0] for name, others in GPT2_NAMES.items()} == dict(
        zip([name for name in PRESETS if name not in ("tiny", "tales")], GPT2, strict=True)
    )


@pytest.mark.parametrize(("name", "hint"), [("gpt2-medum", "did you mean 'gpt2-medium'?"), ("gpt3", "'gpt2'")])
def test_an_unknown_preset_is_refused_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"preset: '{name}' is unknown; ") as error:
        preset_name(name)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"), [("n_layer", "did you mean 'n_layers'"), ("block", "choose one of vocab_size")]
)
def test_an_argument_that_is_not_a_setting_is_named_with_a_similar_one(name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"GPTConfig has no argument '{name}'; {hint}"):
        GPTConfig(**{name: 2})
    config = GPTConfig(n_layers=2)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == replace(config, n_layers=2) == config
