"""Text encoding with any vocabulary: special tokens, long runs of whitespace, id gaps and padding."""

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
from ..errors import InputError, a_or_an
from .bpe import END_OF_TEXT, GPT2_PATTERN

LONG_RUN_CHARS = 100_000  # tiktoken's regex engine backtracks per space of a run, and fails at a million
_LONG_RUN_PATTERN = rf"(?<!\s)\s{{{LONG_RUN_CHARS}}}\s*+(?=\S)"  # compiled where it is needed: 30 ms and 30 MB


class Tokenizer(tiktoken.Encoding):
    """A tiktoken.Encoding with a configurable end-of-text token, eot_token.

    A plain Encoding's is `<|endoftext|>`, if it has that special token.
    """

    def __init__(self, name: str, *, eot_token: int | None, **parts: Any) -> None:
        super().__init__(name, **parts)
        self._eot_token = eot_token

    @property
    def eot_token(self) -> int:
        """The end-of-text token.  Raises KeyError if there is none, as tiktoken does."""
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
    """The end-of-text token, or None."""
    try:
        return tokenizer.eot_token
    except KeyError:
        return None


def token_bytes(tokenizer: tiktoken.Encoding) -> dict[int, bytes]:
    """The bytes of each token by id, special tokens included; ids without a token are omitted."""
    tokens = {rank: token for token, rank in tokenizer._mergeable_ranks.items()}
    return tokens | {token: name.encode() for name, token in tokenizer._special_tokens.items()}


def padding_ids(tokenizer: tiktoken.Encoding, vocab_size: int) -> Ints:
    """Ids 0 .. vocab_size - 1 without a token (n,): gaps in the tokenizer's ids, and all ids beyond them.

    Vocabularies are padded for speed: dimensions that are multiples of 64 or 128 fit a GPU's tiles.
    Raises InputError for a vocab_size smaller than the tokenizer's.
    """
    vocab_size = whole_number("vocab_size", vocab_size, 0)
    if vocab_size < tokenizer.n_vocab:
        raise InputError(
            f"vocab_size: {vocab_size} is less than the {tokenizer.n_vocab} ids of tokenizer {tokenizer.name!r}; "
            "use the model's own tokenizer"
        )
    used = np.zeros(vocab_size, dtype=np.bool_)
    used[list(tokenizer._mergeable_ranks.values())] = True
    used[list(tokenizer._special_tokens.values())] = True
    return np.flatnonzero(~used)


def checked_padding(padding: Ints | None, vocab_size: int) -> Ints:
    """The padding ids (n,) of a vocabulary, empty for None.  Raises InputError for ids outside it, or all of it."""
    ids: Ints = np.asarray([] if padding is None else padding)
    if not ids.size:
        return np.empty(0, dtype=np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not 0 <= ids.min() <= ids.max() < vocab_size:
        raise InputError(
            f"padding: {ids.dtype} of shape {ids.shape} are not ids 0 .. {vocab_size - 1}; use padding_ids"
        )
    if len(np.unique(ids)) == vocab_size:
        raise InputError(f"padding: all {vocab_size} ids are padding; leave at least one token")
    return ids


def encode(text: str, tokenizer: tiktoken.Encoding) -> list[int]:
    """Encode a text; the name of a special token in it becomes that token, the longest match first.

    Equals tiktoken's encode(allowed_special="all"), but takes runs of whitespace of any length.  Raises InputError for
    a run too long for a tokenizer whose word pattern is not GPT-2's.
    """
    if not isinstance(tokenizer, tiktoken.Encoding):
        kind = a_or_an(type(tokenizer).__name__)
        raise TypeError(f"tokenizer is {kind}, expected a tiktoken.Encoding, such as get_tokenizer('gpt2')")
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
    """A pattern for any of the names, with a group, so that split() keeps them."""
    return re.compile("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")")


def _may_contain_long_run(passage: str) -> bool:
    """Whether a probed position is whitespace; every long run has one.  A full search costs a third of encoding."""
    probes = range(0, len(passage), LONG_RUN_CHARS // 2) if len(passage) > LONG_RUN_CHARS else []
    return any(passage[i : i + LONG_RUN_CHARS // 2].isspace() for i in probes)


def _split_at_long_runs(passage: str) -> Iterator[str]:
    """Split where GPT-2's pattern does in any context: before a run of spaces, and before its last one."""
    start = 0
    for run in regex.finditer(_LONG_RUN_PATTERN, passage):
        yield passage[start : run.start()]
        yield passage[run.start() : run.end() - 1]
        start = run.end() - 1
    yield passage[start:]


def _encode_ordinary(passage: str, tokenizer: tiktoken.Encoding) -> list[int]:
    try:
        return tokenizer.encode(passage, disallowed_special=())  # encode_ordinary panics where encode raises
    except ValueError as error:
        raise InputError(
            f"text: the pattern of tokenizer {tokenizer.name!r} cannot split it into words ({error}); shorten its "
            "runs of spaces or line ends to less than a million"
        ) from None
