"""Model configuration under the book's names, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Self, TypeAlias

from ..arguments import dropout_rate, flag, whole_number
from ..errors import InputError, did_you_mean

Shapes: TypeAlias = dict[str, tuple[int, ...]]  # parameter shapes by name

MAX_PARAMETERS = 10**12  # parameters; more is taken for a typing error


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPTModel, under the book's names.

    vocab_size          int >= 1 [50257]: token ids, V
    context_length      int >= 1 [256]: longest input, in tokens
    emb_dim             int >= 1, a multiple of n_heads [768]: channels, C
    n_heads             int >= 1 [12]: attention heads per layer, H
    n_layers            int >= 1 [12]: transformer blocks
    drop_rate           float in [0, 1) [0.1]: dropout probability in training mode
    qkv_bias            bool [False]: biases of the query, key and value projections
    tied_head           bool [False]: the output head shares tok_emb's weight, as in GPT-2

    Raises InputError for a value out of range and for sizes that do not fit together.  Source: book section 4.1.

    >>> config = GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> config.n_parameters
    9824
    >>> GPTConfig(emb_dim=100, n_heads=12)
    Traceback (most recent call last):
    nanograd_gpt.errors.InputError: n_heads: 12 does not divide emb_dim = 100; choose 10 or 20, or emb_dim 96 or 108
    """

    vocab_size: int = 50257
    context_length: int = 256
    emb_dim: int = 768
    n_heads: int = 12
    n_layers: int = 12
    drop_rate: float = 0.1
    qkv_bias: bool = False
    tied_head: bool = False

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        """Refuse an unknown name with a similar one, before the generated __init__ does without."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise TypeError(f"GPTConfig has no argument {name!r}{did_you_mean(name, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        if self.emb_dim % self.n_heads:
            raise InputError(_indivisible(self.emb_dim, self.n_heads))
        for name in ("qkv_bias", "tied_head"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        object.__setattr__(self, "drop_rate", dropout_rate("drop_rate", self.drop_rate))
        if self.n_parameters > MAX_PARAMETERS:
            raise InputError(f"model: {self.n_parameters:,} parameters are too many; choose smaller sizes")

    @classmethod
    def of(cls, config: Any) -> GPTConfig:
        """Create a config from the book's dictionary.  Raises InputError for an unknown name or no dictionary."""
        if isinstance(config, GPTConfig):
            return config
        if not isinstance(config, Mapping):
            raise InputError(f"model configuration: it is a {type(config).__name__}; give a mapping of names to sizes")
        known = [f.name for f in fields(cls)]
        for name in config:
            if name not in known:
                raise InputError(f"model configuration: {name!r} is unknown{did_you_mean(name, known)}")
        return cls(**config)

    @property
    def n_parameters(self) -> int:
        """Number of parameters of a GPTModel with this configuration."""
        shapes = _embedding_shapes(self), _block_shapes(self), _head_shapes(self)
        embeddings, block, head = (sum(map(prod, part.values())) for part in shapes)
        return embeddings + self.n_layers * block + head

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _indivisible(emb_dim: int, n_heads: int) -> str:
    """The error about a number of heads that does not divide the channels, with the nearest of either that fit."""
    heads = [h for h in range(1, emb_dim + 1) if emb_dim % h == 0]
    near = [*[h for h in heads if h < n_heads][-1:], *[h for h in heads if h > n_heads][:1]]
    below = emb_dim // n_heads * n_heads
    sizes = [size for size in (below, below + n_heads) if size]
    return (
        f"n_heads: {n_heads} does not divide emb_dim = {emb_dim}; choose {' or '.join(map(str, near))}, "
        f"or emb_dim {' or '.join(map(str, sizes))}"
    )


def parameter_shapes(config: GPTConfig) -> Shapes:
    """Return a GPTModel's parameter shapes by name, in state_dict order, without allocating a model."""
    blocks = {f"trf_blocks.{i}.{name}": s for i in range(config.n_layers) for name, s in _block_shapes(config).items()}
    return _embedding_shapes(config) | blocks | _head_shapes(config)


def _embedding_shapes(config: GPTConfig) -> Shapes:
    C = config.emb_dim
    return {"tok_emb.weight": (config.vocab_size, C), "pos_emb.weight": (config.context_length, C)}


def _block_shapes(config: GPTConfig) -> Shapes:
    """Return the parameter shapes of one transformer block."""
    C = config.emb_dim
    shapes: Shapes = {}
    for name in ("W_query", "W_key", "W_value"):
        shapes[f"att.{name}.weight"] = (C, C)
        if config.qkv_bias:
            shapes[f"att.{name}.bias"] = (C,)
    linear = {"att.out_proj": (C, C), "ff.layers.0": (4 * C, C), "ff.layers.2": (C, 4 * C)}
    for name, (d_out, d_in) in linear.items():
        shapes |= {f"{name}.weight": (d_out, d_in), f"{name}.bias": (d_out,)}
    return shapes | {f"{norm}.{name}": (C,) for norm in ("norm1", "norm2") for name in ("scale", "shift")}


def _head_shapes(config: GPTConfig) -> Shapes:
    C = config.emb_dim
    head = {} if config.tied_head else {"out_head.weight": (config.vocab_size, C)}
    return {"final_norm.scale": (C,), "final_norm.shift": (C,), **head}


GPT_CONFIG_124M: dict[str, Any] = GPTConfig().to_dict()  # the book's, with its shortened context of 256

# GPT-2's sizes; each preset's other names, the first being that of its weights on the Hugging Face hub
GPT2_NAMES = {
    "gpt2-124m": ("gpt2", "gpt2-small"),
    "gpt2-355m": ("gpt2-medium",),
    "gpt2-774m": ("gpt2-large",),
    "gpt2-1558m": ("gpt2-xl",),
}

PRESETS: dict[str, GPTConfig] = {
    "tiny": GPTConfig(vocab_size=769, context_length=64, emb_dim=160, n_heads=5, n_layers=4, drop_rate=0.2),
    "tales": GPTConfig(vocab_size=330, context_length=66, emb_dim=64, n_heads=4, n_layers=4, drop_rate=0.0),
    "gpt2-124m": GPTConfig(),
    "gpt2-355m": GPTConfig(emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-774m": GPTConfig(emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-1558m": GPTConfig(emb_dim=1600, n_heads=25, n_layers=48),
}


def preset_name(name: str) -> str:
    """The key in PRESETS that a name stands for, in either case of its letters: "gpt2-124m" for "gpt2" or "gpt2-small".

    Raises InputError, with a suggestion, for an unknown name.
    """
    lower = name.lower()
    for preset, others in GPT2_NAMES.items():
        if lower in others:
            return preset
    if lower not in PRESETS:
        known = [*PRESETS, *(other for others in GPT2_NAMES.values() for other in others)]
        raise InputError(f"preset: {name!r} is unknown{did_you_mean(lower, known)}")
    return lower
