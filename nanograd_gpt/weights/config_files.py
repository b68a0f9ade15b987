"""Model configurations from config.json, hparams.json, a file's metadata, or the shapes of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..documents import json_object, read_json
from ..errors import InputError
from ..files import UnreadableError
from ..gpt.config import GPTConfig
from .gpt2_names import Layout
from .safetensors_file import StoredTensor

HEADS = {
    768: 12,
    1024: 16,
    1280: 20,
    1600: 25,
}  # GPT-2's n_heads by emb_dim: the one size that no weight's shape reveals
DEFAULT_DROP_RATE = 0.1  # Hugging Face's default, for a config.json without it
TANH_GELU = "gelu_new", "gelu_pytorch_tanh"  # two names of the same formula
SUPPORTED = {  # config.json: the only supported value, and Hugging Face's default for a missing one
    "model_type": ("gpt2", "gpt2"),
    "layer_norm_epsilon": (1e-5, 1e-5),
    "scale_attn_weights": (True, True),
    "scale_attn_by_inverse_layer_idx": (False, False),
    "add_cross_attention": (False, False),
}


RATES = "resid_pdrop", "embd_pdrop", "attn_pdrop"


def from_config_json(path: Path) -> GPTConfig:
    """Read Hugging Face's config.json; drop_rate is resid_pdrop.  Raises InputError for an unsupported architecture."""
    given = _read(path)
    for name, (supported, default) in SUPPORTED.items():
        if given.get(name, default) != supported:
            raise InputError(f"model: {path}: unsupported {name} {given[name]!r}; only {supported!r} is supported")
    activation = given.get("activation_function", TANH_GELU[0])
    if activation not in TANH_GELU:
        raise InputError(
            f"model: {path}: unsupported activation_function {activation!r}; only {TANH_GELU[0]!r} is supported"
        )
    length = "n_positions" if "n_positions" in given else "n_ctx"
    sizes = {"vocab_size": "vocab_size", "context_length": length}
    config = _config(
        path,
        drop_rate=given.get("resid_pdrop", DEFAULT_DROP_RATE),
        qkv_bias=True,
        tied_head=given.get("tie_word_embeddings", True),
        **_sizes_from(path, given, {**sizes, "emb_dim": "n_embd", "n_heads": "n_head", "n_layers": "n_layer"}),
    )
    if given.get("n_inner") not in (None, 4 * config.emb_dim):
        raise InputError(
            f"model: {path}: unsupported n_inner {given['n_inner']!r}; only {4 * config.emb_dim} is supported"
        )
    return config


def differing_rates(path: Path) -> dict[str, float]:
    """Return the three dropout rates of Hugging Face's config.json, or {} if they agree and fit one drop_rate."""
    given = _read(path)
    rates = {name: given.get(name, DEFAULT_DROP_RATE) for name in RATES}
    return rates if any(rate != rates[RATES[0]] for rate in rates.values()) else {}


def to_config_json(config: GPTConfig, eot_token: int | None) -> dict[str, Any]:
    """Return a config.json for Hugging Face's transformers, with eot_token as its end of text."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{name: supported for name, (supported, _) in SUPPORTED.items()},
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


def to_generation_config(config: GPTConfig, eot_token: int | None, padding: list[int]) -> dict[str, Any]:
    """Return a generation_config.json with the defaults of `generate`: greedy, to the end of text, without padding.

    max_length is the context, since transformers fail beyond it; their text-generation pipeline's default is longer.
    """
    return {
        "bos_token_id": eot_token,
        "eos_token_id": eot_token,
        "pad_token_id": eot_token,
        "do_sample": False,
        "max_length": config.context_length,
        **({"suppress_tokens": padding} if padding else {}),
    }


def from_hparams(path: Path) -> GPTConfig:
    """Read OpenAI's hparams.json.  Raises InputError for a missing or invalid size."""
    given = _read(path)
    sizes = {"vocab_size": "n_vocab", "context_length": "n_ctx", "emb_dim": "n_embd", "n_heads": "n_head"}
    return _config(path, qkv_bias=True, tied_head=True, **_sizes_from(path, given, {**sizes, "n_layers": "n_layer"}))


def from_metadata(path: Path, text: str) -> GPTConfig:
    """Read the package's own configuration, from the header of the file `path`.  Raises InputError if it is invalid."""
    try:
        return GPTConfig.of(json_object(text))
    except UnreadableError as error:
        raise InputError(f"model: {path}: its configuration cannot be read ({error})") from None
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
    """Derive a configuration from shapes; n_heads is needed if emb_dim is not one of GPT-2's.

    Raises InputError if the two embeddings are not matrices, and for an unknown n_heads.
    """
    for name in (layout.tokens, layout.positions):
        if name not in stored:
            raise InputError(f"model: {path}: {name} is missing, and the file has no configuration")
        if len(stored[name].shape) != 2:
            raise InputError(f"model: {path}: {name} has shape {stored[name].shape}; expected two axes")
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


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except UnreadableError as error:
        raise InputError(f"model: {path}: its configuration cannot be read ({error})") from None


def _sizes_from(path: Path, given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the sizes in `given`, renamed from the values of `names` to its keys."""
    for key in names.values():
        if key not in given:
            raise InputError(f"model: {path} has no {key!r}; give the file that belongs to GPT-2's weights")
    return {name: given[key] for name, key in names.items()}


def _config(path: Path, **sizes: Any) -> GPTConfig:
    try:
        return GPTConfig(**sizes)
    except InputError as error:
        raise _with_path(path, error) from None


def _with_path(path: Path, error: InputError) -> InputError:
    """Add the file's path to an error's message, unless it is there."""
    message = str(error)
    return error if str(path) in message else InputError(f"model: {path}: {message}")
