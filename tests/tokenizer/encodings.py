"""Encodings that are not GPT-2's: bytes alone, with any special tokens or none, and with gaps in their ids."""

from __future__ import annotations

from collections.abc import Mapping

import tiktoken

from nanograd_gpt.tokenizer.bpe import GPT2_PATTERN


def plain_encoding(special: Mapping[str, int], pattern: str = GPT2_PATTERN) -> tiktoken.Encoding:
    """A byte is its own id."""
    ranks = {bytes([value]): value for value in range(256)}
    return tiktoken.Encoding("plain", pat_str=pattern, mergeable_ranks=ranks, special_tokens=dict(special))


def gappy(special: Mapping[str, int] | None = None) -> tiktoken.Encoding:
    """Bytes, " t" 257 and "he" 258, special tokens 270 and 280; nothing has the ids between, as in cl100k_base."""
    ranks = {bytes([value]): value for value in range(256)} | {b" t": 257, b"he": 258}
    special = {"<|user|>": 270, "<|system|>": 280} if special is None else special
    return tiktoken.Encoding("gappy", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=dict(special))
