"""A model's configuration in others' words: config.json, hparams.json, or no more than the shapes of its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..gpt.config import GPTConfig
from .gpt2_names import Layout
from .safetensors_file import StoredTensor

HEADS = {768: 12, 1024: 16, 1280: 20, 1600: 25}  # GPT-2's, by emb_dim: the one size that no shape tells
DEFAULT_DROP_RATE = 0.1  # where config.json does not say it
TANH_GELU = "gelu_new", "gelu_pytorch_tanh"  # two names of one formula
SUPPORTED = {  # config.json: what must be as our model has it, and what Hugging Face takes where it is not said
    "model_type": ("gpt2", "gpt2"),
    "layer_norm_epsilon": (1e-5, 1e-5),
    "scale_attn_weights": (True, True),
    "scale_attn_by_inverse_layer_idx": (False, False),
    "add_cross_attention": (False, False),
}


RATES = "resid_pdrop", "embd_pdrop", "attn_pdrop"


def from_config_json(path: Path) -> GPTConfig:
    """Hugging Face's; of their three dropout rates resid_pdrop.  Raises InputError for what we compute otherwise."""
    given = _parsed(path, path.read_text(encoding="utf-8", errors="replace"))
    for name, (ours, default) in SUPPORTED.items():
        if given.get(name, default) != ours:
            raise InputError(f"model: {path}: {name} {given[name]!r} is not ours; a model with {ours!r} is needed")
    activation = given.get("activation_function", TANH_GELU[0])
    if activation not in TANH_GELU:
        raise InputError(f"model: {path}: activation_function {activation!r} is not ours; {TANH_GELU[0]!r} is needed")
    length = "n_positions" if "n_positions" in given else "n_ctx"
    ours = {"vocab_size": "vocab_size", "context_length": length}
    config = _config(
        path,
        drop_rate=given.get("resid_pdrop", DEFAULT_DROP_RATE),
        qkv_bias=True,
        tied_head=given.get("tie_word_embeddings", True),
        **_sizes_from(path, given, {**ours, "emb_dim": "n_embd", "n_heads": "n_head", "n_layers": "n_layer"}),
    )
    if given.get("n_inner") not in (None, 4 * config.emb_dim):
        raise InputError(f"model: {path}: n_inner {given['n_inner']!r} is not ours; {4 * config.emb_dim} is needed")
    return config


def differing_rates(path: Path) -> dict[str, float]:
    """The three dropout rates in Hugging Face's config.json; none where all are the same, as our one drop_rate is."""
    given = _parsed(path, path.read_text(encoding="utf-8", errors="replace"))
    rates = {name: given.get(name, DEFAULT_DROP_RATE) for name in RATES}
    return rates if any(rate != rates[RATES[0]] for rate in rates.values()) else {}


def to_config_json(config: GPTConfig, eot_token: int | None) -> dict[str, Any]:
    """A config.json for Hugging Face's transformers; eot_token ends a text there too."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{name: ours for name, (ours, _) in SUPPORTED.items()},
        "activation_function": TANH_GELU[0],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        **dict.fromkeys(RATES, config.drop_rate),
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": eot_token,
        "eos_token_id": eot_token,
    }


def from_hparams(path: Path) -> GPTConfig:
    """OpenAI's.  Raises InputError for a size that is missing, or is none."""
    given = _parsed(path, path.read_text(encoding="utf-8", errors="replace"))
    ours = {"vocab_size": "n_vocab", "context_length": "n_ctx", "emb_dim": "n_embd", "n_heads": "n_head"}
    return _config(path, qkv_bias=True, tied_head=True, **_sizes_from(path, given, {**ours, "n_layers": "n_layer"}))


def from_metadata(path: Path, text: str) -> GPTConfig:
    """Our own, in the header of the file `path`.  Raises InputError for what GPTConfig does not take."""
    try:
        return GPTConfig.of(_parsed(path, text))
    except InputError as error:
        raise _with_path(path, error) from None


def from_shapes(
    path: Path,
    stored: Mapping[str, StoredTensor],
    layout: Layout,
    n_heads: int | None,
    *,
    qkv_bias: bool,
    tied_head: bool,
) -> GPTConfig:
    """The configuration that shapes imply; n_heads is needed where emb_dim is not one of GPT-2's.

    Raises InputError if the two embeddings are not tables, or n_heads is not known.
    """
    for name in (layout.tokens, layout.positions):
        if name not in stored:
            raise InputError(f"model: {path}: {name} is missing, and there is no configuration")
        if len(stored[name].shape) != 2:
            raise InputError(f"model: {path}: {name} has shape {stored[name].shape}; two sizes are expected")
    vocab_size, emb_dim = stored[layout.tokens].shape
    heads = HEADS.get(emb_dim) if n_heads is None else n_heads
    if heads is None:
        raise InputError(f"model: {path} does not say its n_heads, and emb_dim {emb_dim} is not GPT-2's; give n_heads")
    return _config(
        path,
        vocab_size=vocab_size,
        context_length=stored[layout.positions].shape[0],
        emb_dim=emb_dim,
        n_heads=heads,
        n_layers=len({n.removeprefix(layout.block).split(".")[0] for n in stored if n.startswith(layout.block)}),
        qkv_bias=qkv_bias,
        tied_head=tied_head,
    )


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"model: {path}: its configuration is no JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise InputError(f"model: {path}: its configuration is {type(parsed).__name__}; names and values are expected")
    return parsed


def _sizes_from(path: Path, given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The given sizes, under our names."""
    for theirs in names.values():
        if theirs not in given:
            raise InputError(f"model: {path} has no {theirs!r}; give the one that belongs to a GPT-2's weights")
    return {ours: given[theirs] for ours, theirs in names.items()}


def _config(path: Path, **sizes: Any) -> GPTConfig:
    try:
        return GPTConfig(**sizes)
    except InputError as error:
        raise _with_path(path, error) from None


def _with_path(path: Path, error: InputError) -> InputError:
    """The same error, with the file that it is about."""
    message = str(error)
    return error if str(path) in message else InputError(f"model: {path}: {message}")
