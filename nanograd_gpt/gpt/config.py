"""A model's sizes, under the book's names, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..arguments import dropout_rate, flag, whole_number
from ..errors import InputError, did_you_mean

LARGEST = 10**12  # parameters; a slip of the keyboard is told from a plan


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPTModel.  Raises InputError for a size below 1, or where they do not fit together."""

    vocab_size: int = 50257
    context_length: int = 256
    emb_dim: int = 768
    n_heads: int = 12
    n_layers: int = 12
    drop_rate: float = 0.1
    qkv_bias: bool = False
    tied_head: bool = False  # the head is tok_emb's weight, as in GPT-2 itself

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        if self.emb_dim % self.n_heads:
            raise InputError(f"emb_dim: {self.emb_dim} cannot be shared among n_heads = {self.n_heads}; use a multiple")
        for name in ("qkv_bias", "tied_head"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        object.__setattr__(self, "drop_rate", dropout_rate("drop_rate", self.drop_rate))
        if self.n_parameters > LARGEST:
            raise InputError(f"model: {self.n_parameters:,} parameters are too many; choose smaller sizes")

    @classmethod
    def of(cls, config: GPTConfig | Mapping[str, Any]) -> GPTConfig:
        """A config from the book's dictionary.  Raises InputError for a name it does not know."""
        if isinstance(config, GPTConfig):
            return config
        known = [f.name for f in fields(cls)]
        for name in config:
            if name not in known:
                raise InputError(f"model configuration: {name!r} is unknown{did_you_mean(name, known)}")
        return cls(**config)

    @property
    def n_parameters(self) -> int:
        """How many numbers a GPTModel of these sizes learns."""
        C = self.emb_dim
        attention = 3 * (C * C + C * self.qkv_bias) + (C * C + C)
        feed_forward = (C * 4 * C + 4 * C) + (4 * C * C + C)
        norm = 2 * C
        tables = 1 if self.tied_head else 2  # of the vocabulary
        embeddings_and_head = (tables * self.vocab_size + self.context_length) * C
        return embeddings_and_head + self.n_layers * (attention + feed_forward + 2 * norm) + norm

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


GPT_CONFIG_124M: dict[str, Any] = GPTConfig().to_dict()  # the book's, with its shortened context of 256

PRESETS: dict[str, GPTConfig] = {
    "tiny": GPTConfig(vocab_size=769, context_length=64, emb_dim=160, n_heads=5, n_layers=4, drop_rate=0.2),
    "gpt2-124m": GPTConfig(),
    "gpt2-355m": GPTConfig(emb_dim=1024, n_heads=16, n_layers=24),
    "gpt2-774m": GPTConfig(emb_dim=1280, n_heads=20, n_layers=36),
    "gpt2-1558m": GPTConfig(emb_dim=1600, n_heads=25, n_layers=48),
}
