"""Tokens as text in which nothing is invisible: spaces, line ends, control characters, parts of characters."""

from __future__ import annotations

from typing import NamedTuple

import tiktoken

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥"}


class TokenText(NamedTuple):
    """A token's visible text."""

    text: str
    is_bytes: bool  # part of a character only, whose bytes the text shows in hexadecimal


def token_text(token: int, tokenizer: tiktoken.Encoding) -> TokenText:
    """The visible text of a token: marks for space, line feed and tab, escapes for what cannot be printed."""
    raw = tokenizer.decode_single_token_bytes(token)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return TokenText(f"0x{raw.hex()}", True)
    return TokenText("".join(_visible(character) for character in text), False)


def _visible(character: str) -> str:
    if character in MARKS:
        return MARKS[character]
    return character if character.isprintable() else character.encode("unicode_escape").decode()
