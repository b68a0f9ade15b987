"""Encoding of any text with any vocabulary: special tokens, long runs of spaces, gaps and padding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import regex
import tiktoken

from ..arguments import whole_number
from ..backend.contract import Ints
from ..errors import InputError
from .bpe import END_OF_TEXT, GPT2_PATTERN

LONG_RUN_CHARS = 100_000  # tiktoken's matcher keeps a state for every space of a run, and gives up at a million
_LONG_RUN_PATTERN = regex.compile(rf"(?<!\s)\s{{{LONG_RUN_CHARS}}}\s*+(?=\S)")


class Tokenizer(tiktoken.Encoding):
    """A tiktoken.Encoding that ends its texts with a token of its own choice: eot_token.

    A plain Encoding ends them with `<|endoftext|>`, if that is among its special tokens.
    """

    def __init__(self, name: str, *, eot_token: int | None, **parts: Any) -> None:
        super().__init__(name, **parts)
        self._eot_token = eot_token

    @property
    def eot_token(self) -> int:
        """The end of text.  Raises KeyError where there is none, as tiktoken does."""
        if self._eot_token is None:
            raise KeyError(END_OF_TEXT)
        return self._eot_token

    def __getstate__(self) -> object:
        return {
            "name": self.name,
            "eot_token": self._eot_token,
            "pat_str": self._pat_str,
            "mergeable_ranks": self._mergeable_ranks,
            "special_tokens": self._special_tokens,
        }


def end_of_text(tokenizer: tiktoken.Encoding) -> int | None:
    """The token that ends a text; None where the tokenizer has none."""
    try:
        return tokenizer.eot_token
    except KeyError:
        return None


def token_bytes(tokenizer: tiktoken.Encoding) -> dict[int, bytes]:
    """The bytes of each id, special tokens among them; gaps in the ids are left out."""
    tokens = {rank: token for token, rank in tokenizer._mergeable_ranks.items()}
    return tokens | {token: name.encode() for name, token in tokenizer._special_tokens.items()}


def padding_ids(tokenizer: tiktoken.Encoding, vocab_size: int) -> Ints:
    """Those of a model's ids 0 .. vocab_size - 1 that stand for no token (n,): gaps in the tokenizer's, and all beyond.

    A vocabulary is padded for speed: matrices whose sides are multiples of 64 or 128 fit a GPU's blocks.
    Raises InputError for a vocabulary smaller than the tokenizer's.
    """
    vocab_size = whole_number("vocab_size", vocab_size, 0)
    if vocab_size < tokenizer.n_vocab:
        raise InputError(
            f"vocab_size: {vocab_size} is less than tokenizer {tokenizer.name!r} has, {tokenizer.n_vocab} ids; "
            "use a tokenizer that belongs to the model"
        )
    there = np.zeros(vocab_size, dtype=np.bool_)
    there[list(tokenizer._mergeable_ranks.values())] = True
    there[list(tokenizer._special_tokens.values())] = True
    return np.flatnonzero(~there)


def checked_padding(padding: Ints | None, vocab_size: int) -> Ints:
    """The ids (n,) that a model's vocabulary is padded with; none are no ids.  Raises InputError for other ids."""
    ids: Ints = np.asarray([] if padding is None else padding)
    if not ids.size:
        return np.empty(0, dtype=np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not 0 <= ids.min() <= ids.max() < vocab_size:
        raise InputError(
            f"padding: {ids.dtype} of shape {ids.shape} are not ids 0 .. {vocab_size - 1}; give those of padding_ids"
        )
    if len(np.unique(ids)) == vocab_size:
        raise InputError(f"padding: it is all of the {vocab_size} ids, so that none could be chosen; leave some")
    return ids


def encode(text: str, tokenizer: tiktoken.Encoding) -> list[int]:
    """A text's tokens.  A special token's name in it, whichever it is, becomes that one token; of two, the longer.

    As tiktoken's encode with allowed_special "all", and a run of spaces or line ends may be of any length.  Raises
    InputError for a run too long for a tokenizer whose cut into words is not GPT-2's.
    """
    special = tokenizer._special_tokens
    ids: list[int] = []
    for passage in _special_pattern(tuple(special)).split(text) if special else [text]:
        if passage in special:
            ids.append(special[passage])
        else:
            long = tokenizer._pat_str == GPT2_PATTERN and _may_contain_long_run(passage)
            for part in _split_at_long_runs(passage) if long else [passage]:
                ids += _encode_ordinary(part, tokenizer)
    return ids


@lru_cache(maxsize=16)
def _special_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of the names, as a group, so that splitting keeps them."""
    return re.compile("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")")


def _may_contain_long_run(passage: str) -> bool:
    """A look at a few places, of which each long run holds one: searching it all would take a third of encoding."""
    return any(passage[i : i + LONG_RUN_CHARS // 2].isspace() for i in range(0, len(passage), LONG_RUN_CHARS // 2))


def _split_at_long_runs(passage: str) -> Iterator[str]:
    """Cut where GPT-2's pattern cuts, whatever stands around: a run's last space goes with what follows it, and those
    before it are a word."""
    start = 0
    for run in _LONG_RUN_PATTERN.finditer(passage):
        yield passage[start : run.start()]
        yield passage[run.start() : run.end() - 1]
        start = run.end() - 1
    yield passage[start:]


def _encode_ordinary(passage: str, tokenizer: tiktoken.Encoding) -> list[int]:
    try:
        return tokenizer.encode(passage, disallowed_special=())  # its encode_ordinary panics, where this one raises
    except ValueError as error:
        raise InputError(
            f"text: the pattern of tokenizer {tokenizer.name!r} cannot cut it into words ({error}); shorten its "
            "longest runs of spaces or line ends to less than a million"
        ) from None
