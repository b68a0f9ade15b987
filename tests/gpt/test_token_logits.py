"""A token's logits by the kernels alone: the bits of the model's own forward, and only where nobody would miss it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gpt.tiny import ids_of

from nanograd_gpt.anomaly import detect_anomaly
from nanograd_gpt.errors import NonFiniteError
from nanograd_gpt.generation import decoder
from nanograd_gpt.generation.generate import generate_text, new_tokens
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import FeedForward, GPTModel
from nanograd_gpt.gpt.token_logits import has_uniform_parameters, is_standard, token_logits
from nanograd_gpt.nn.layers import GELU, LayerNorm, Linear
from nanograd_gpt.nn.module import Module, Sequential
from nanograd_gpt.rng import Generator
from nanograd_gpt.tape.recorder import record
from nanograd_gpt.tensor import Tensor

CONFIG = GPTConfig(vocab_size=61, context_length=40, emb_dim=32, n_heads=4, n_layers=3, drop_rate=0.1)
CONFIGS = [
    CONFIG,
    replace(CONFIG, qkv_bias=True, tied_head=True),
    replace(CONFIG, n_heads=1, n_layers=1),
    replace(CONFIG, emb_dim=1088, n_heads=2, n_layers=1),  # its products are shared among threads
]


def model_of(config: GPTConfig, dtype: Any = np.float32) -> GPTModel:
    return GPTModel(config, rng=Generator(3)).to(dtype=dtype).eval()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.emb_dim}-{config.qkv_bias}")
def test_logits_and_cache_have_the_bits_of_the_models_forward(config: GPTConfig, rows: int, dtype: Any) -> None:
    model = model_of(config, dtype)
    assert is_standard(model)
    assert has_uniform_parameters(model)
    caches = model.new_cache(rows), model.new_cache(rows)
    for cache in caches:
        model.next_token_logits(ids_of((rows, 5), config), cache)
        cache.lengths -= np.arange(rows)  # texts of different lengths
    for token in ids_of((8, rows), config, seed=1):
        own = token_logits(model, token, caches[0])
        np.testing.assert_array_equal(own, model.next_token_logits(token[:, None], caches[1]).data)
        assert own.dtype == dtype
    np.testing.assert_array_equal(caches[0].memory, caches[1].memory)
    np.testing.assert_array_equal(caches[0].lengths, caches[1].lengths)


class Doubled(FeedForward):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class OwnModel(GPTModel):
    pass


def own_feed_forward(model: Any) -> None:
    model.trf_blocks[1].ff = Doubled(CONFIG, rng=Generator(5))


def feed_forward_of_known_layers(model: Any) -> None:
    model.trf_blocks[1].ff = Sequential(Linear(32, 8, rng=Generator(5)), GELU(), Linear(8, 32, rng=Generator(5)))


def norm_in_place_of_a_dropout(model: Any) -> None:
    model.drop_emb = LayerNorm(32)


def function_in_place_of_a_layer(model: Any) -> None:
    model.final_norm = lambda x: x * 0.5


def other_linear_in_a_tuple(model: Any) -> None:
    ff = model.trf_blocks[0].ff
    ff.linears = ff.linears[0], Sequential(Linear(128, 32, rng=Generator(5)))


def own_forward_of_an_instance(model: Any) -> None:
    model.trf_blocks[0].norm2.forward = lambda x: x * 0.5


def own_add_of_an_instance(model: Any) -> None:
    model.trf_blocks[0].drop_shortcut.add = lambda x, residual: residual


def active_dropout(model: Any) -> None:
    model.trf_blocks[0].drop_shortcut.train()


def mixed_dtypes(model: Any) -> None:
    weight = model.trf_blocks[0].att.out_proj.weight
    weight.data = weight.data.astype(np.float64)


def weight_in_another_order(model: Any) -> None:
    model.out_head.weight.data = np.asfortranarray(model.out_head.weight.data)


CHANGES = [own_feed_forward, feed_forward_of_known_layers, norm_in_place_of_a_dropout, function_in_place_of_a_layer]
CHANGES += [other_linear_in_a_tuple, own_forward_of_an_instance, own_add_of_an_instance, active_dropout]
ARRAYS = [mixed_dtypes, weight_in_another_order]


def fail_if_called(*_: object) -> None:
    pytest.fail("the model's own forward was not called")


@pytest.mark.parametrize("change", CHANGES + ARRAYS, ids=lambda change: change.__name__)
def test_the_own_forward_of_a_model_that_was_changed_is_called(
    change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(CONFIG)
    change(model)
    assert not (is_standard(model) and has_uniform_parameters(model))
    monkeypatch.setattr(decoder, "token_logits", fail_if_called)
    assert generate_text(model, [[1, 2, 3]], 4, 40).shape == (1, 7)


def test_that_of_a_subclass_is_called() -> None:
    assert not is_standard(OwnModel(CONFIG).eval())
    assert is_standard(GPTModel(CONFIG).eval())


@pytest.mark.parametrize("layer", [Linear, Module, GPTModel], ids=lambda layer: layer.__name__)
def test_a_forward_or_a_call_that_is_replaced_in_a_class_is_called(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, called = model_of(CONFIG), []
    name = {Linear: "forward", Module: "__call__", GPTModel: "hidden_states"}[layer]
    function = getattr(layer, name)

    def counted(self: Any, *inputs: Any, **options: Any) -> Any:
        called.append(self)
        return function(self, *inputs, **options)

    monkeypatch.setattr(layer, name, counted)
    generate_text(model, [[1, 2, 3]], 1, 40)
    once = len(called)
    generate_text(model, [[1, 2, 3]], 4, 40)
    assert len(called) == 5 * once > 0


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_between_two_tokens_is_noticed(change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(CONFIG)
    tokens = new_tokens(model, [np.array([1, 2, 3])], 8, 40, Sampling(), Generator(1), set())
    for _ in range(3):
        next(tokens)
    change(model)
    monkeypatch.setattr(decoder, "token_logits", fail_if_called)
    assert len(list(tokens)) == 5


def test_generation_calls_it_for_each_token_after_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(model: GPTModel, tokens: Any, cache: Any) -> Any:
        calls.append(tokens.shape)
        return token_logits(model, tokens, cache)

    monkeypatch.setattr(decoder, "token_logits", counted)
    text = generate_text(model_of(CONFIG), ids_of((2, 4), CONFIG), 6, 40)
    assert calls == [(2,)] * 5
    monkeypatch.setattr(decoder, "is_standard", lambda model: False)
    np.testing.assert_array_equal(generate_text(model_of(CONFIG), ids_of((2, 4), CONFIG), 6, 40), text)
    assert len(calls) == 5


def test_a_tape_sees_the_operations_of_every_token() -> None:
    with record() as tape:
        generate_text(model_of(CONFIG), [[1, 2, 3]], 4, 40)
    assert sum(operation.name == "LinearGELU" for operation in tape.operations) == 4 * CONFIG.n_layers


def test_an_anomaly_is_found_in_any_token() -> None:
    model = model_of(CONFIG)
    model.pos_emb.weight.data[5] = 1e38
    with detect_anomaly(), np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="LayerNorm"):
        generate_text(model, [[1, 2, 3]], 5, 40)


def test_ids_outside_the_vocabulary_are_refused() -> None:
    model = model_of(CONFIG)
    with pytest.raises(ValueError, match=r"61 .. 61 reach outside the vocabulary, 0 .. 60"):
        token_logits(model, np.array([61]), model.new_cache(1))
