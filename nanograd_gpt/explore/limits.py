"""The part of the numbers that a page keeps, so that its file stays small enough to send and to open."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from ..errors import InputError, counted
from ..gpt.config import GPTConfig

MAX_PART = 400_000  # numbers of one part that is kept whole; as text, 2.1 MB
MAX_ATTENTION = 3_000_000  # attention weights, which are always kept whole; as text, 16 MB
LIKELIEST = 500  # tokens of each position, of a larger vocabulary
STRONGEST = 16  # activations of each position and block, of a larger model


class Kept(NamedTuple):
    """The numbers that a page keeps."""

    likeliest: int | None  # logits of this many tokens at each position; None for all
    strongest: int | None  # MLP activations of this many units at each position and block; None for all
    channels: bool  # each channel of the residual stream, and not its length alone


def kept_of(config: GPTConfig, T: int) -> Kept:
    """Choose the numbers to keep of T tokens.  Raises InputError for more tokens than a page can show."""
    L, C = config.n_layers, config.emb_dim
    check_length(config, T)
    return Kept(
        LIKELIEST if T * config.vocab_size > MAX_PART and config.vocab_size > LIKELIEST else None,
        STRONGEST if L * T * 4 * C > MAX_PART and 4 * C > STRONGEST else None,
        (3 + 5 * L) * T * C <= MAX_PART,
    )


def check_length(config: GPTConfig, T: int) -> None:
    """Raise InputError for more tokens than a page can show."""
    heads = config.n_layers * config.n_heads
    if heads * T * (T + 1) // 2 > MAX_ATTENTION:
        most = (isqrt(8 * (MAX_ATTENTION // heads) + 1) - 1) // 2
        raise InputError(
            f"prompt: the attention of {counted(heads, 'head')} to {T:,} tokens is more than a page can hold; give at "
            f"most {counted(most, 'token')}"
        )
