"""Show the likeliest next tokens at each position of a prompt, and the probability of the actual one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from shutil import get_terminal_size
from unicodedata import combining, east_asian_width

import numpy as np
import tiktoken

from ..errors import InputError
from ..generation.explain import Position, explain_next
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import text_to_token_ids
from .options import add_model, model_from

LONGEST = 20  # columns of a token
NARROWEST = 72  # columns of the table: room for one long token and one long guess


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--prompt", default="Every effort moves you", help="text to explain")
    parser.add_argument("--top", type=int, default=5, help="number of likeliest next tokens to show [5]")


def run(options: Namespace) -> int:
    model, tokenizer, _ = model_from(options)
    ids = text_to_token_ids(options.prompt, tokenizer)[0]
    context = model.config.context_length
    if not ids.size:
        raise InputError("prompt: it is empty; give a text to explain")
    if len(ids) > context:
        raise InputError(f"prompt: {len(ids)} tokens are more than the model's context of {context}; shorten it")
    with np.errstate(all="ignore"):  # non-finite weights are reported in one line
        positions = explain_next(model, ids, options.top, padding_ids(tokenizer, model.config.vocab_size))
    print("after each token: probability and rank of the actual next token, and the likeliest ones")
    for line in _table(positions, tokenizer, max(NARROWEST, get_terminal_size().columns)):
        print(line)
    return 0


def _table(positions: list[Position], tokenizer: tiktoken.Encoding, width: int) -> Iterator[str]:
    """Yield the lines of a table at most `width` columns wide; guesses that do not fit continue on the next line."""
    tokens = [visible(position.token, tokenizer) for position in positions]
    digits = max(2, len(str(len(tokens))))
    longest = max(columns(token) for token in [*tokens, "token"])
    head = f"{'#':>{digits}}  {_padded('token', longest)}  {'actual':>6}  {'rank':>6}  "
    yield f"{head}likeliest"
    for i, (token, position) in enumerate(zip(tokens, positions, strict=True), start=1):
        actual = position.actual
        came, rank = ("", "") if actual is None else (_percent(actual.probability), actual.rank)
        begin = f"{i:>{digits}}  {_padded(token, longest)}  {came:>6}  {rank:>6}  "
        guesses = [f"{visible(guess.token, tokenizer)} {_percent(guess.probability)}" for guess in position.candidates]
        for line in _wrapped(guesses, width - len(head)):
            yield begin + line
            begin = " " * len(head)


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.0005 else f"{probability:.0e}"


def _wrapped(parts: list[str], width: int) -> Iterator[str]:
    """Join parts into lines of at most `width` columns; a wider part gets its own line."""
    line = parts[0]
    for part in parts[1:]:
        if columns(f"{line}  {part}") > width:
            yield line
            line = part
        else:
            line += f"  {part}"
    yield line


def visible(token: int, tokenizer: tiktoken.Encoding) -> str:
    """A token's repr, which shows spaces and newlines; as bytes if it is part of a character only.

    Long ones are truncated.
    """
    raw = tokenizer.decode_single_token_bytes(token)
    try:
        text = repr(raw.decode())
    except UnicodeDecodeError:
        text = repr(raw)
    if columns(text) <= LONGEST:
        return text
    while columns(text) > LONGEST - 3:
        text = text[:-1]
    return text + "..."


def columns(text: str) -> int:
    """The width of a text in a terminal's columns."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))
