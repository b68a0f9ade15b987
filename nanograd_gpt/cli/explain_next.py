"""Show what a model expected after each token of a prompt, and how likely the token was that came."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from shutil import get_terminal_size
from unicodedata import combining, east_asian_width

import numpy as np
import tiktoken

from ..errors import InputError
from ..generation.explain import Candidate, Position, explain_next
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import text_to_token_ids
from .options import add_model, model_from

LONGEST = 20  # columns that a token may take
NARROWEST = 72  # columns of the whole table: room for one long token and one long guess


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--prompt", default="Every effort moves you", help="the text to look at")
    parser.add_argument("--top", type=int, default=5, help="how many of the likeliest next tokens to show [5]")


def run(options: Namespace) -> int:
    model, tokenizer, _ = model_from(options)
    ids = text_to_token_ids(options.prompt, tokenizer)[0]
    context = model.config.context_length
    if not ids.size:
        raise InputError("prompt: it is empty; give a text to look at")
    if len(ids) > context:
        raise InputError(f"prompt: {len(ids)} tokens are more than the model's context of {context}; shorten it")
    with np.errstate(all="ignore"):  # weights that are no numbers are told of in one line
        positions = explain_next(model, ids, options.top, padding_ids(tokenizer, model.config.vocab_size))
    print("after each token: how likely the one was that came next, its rank, and what was expected")
    for line in _table(positions, tokenizer, max(NARROWEST, get_terminal_size().columns)):
        print(line)
    return 0


def _table(positions: list[Position], tokenizer: tiktoken.Encoding, width: int) -> Iterator[str]:
    """The lines of a table that is no wider than `width`: what was expected goes on below where it has no room."""
    tokens = [visible(position.token, tokenizer) for position in positions]
    digits = max(2, len(str(len(tokens))))
    longest = max(columns(token) for token in [*tokens, "token"])
    head = f"{'#':>{digits}}  {_padded('token', longest)}  {'came':>6}  {'rank':>6}  "
    yield f"{head}expected"
    for i, (token, position) in enumerate(zip(tokens, positions, strict=True), start=1):
        actual = position.actual
        came, rank = ("", "") if actual is None else (_percent(actual.probability), actual.rank)
        begin = f"{i:>{digits}}  {_padded(token, longest)}  {came:>6}  {rank:>6}  "
        for line in _wrapped([_guess(guess, tokenizer) for guess in position.candidates], width - len(head)):
            yield begin + line
            begin = " " * len(head)


def _guess(guess: Candidate, tokenizer: tiktoken.Encoding) -> str:
    return f"{visible(guess.token, tokenizer)} {_percent(guess.probability)}"


def _percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.0005 else f"{probability:.0e}"


def _wrapped(parts: list[str], width: int) -> Iterator[str]:
    """The parts in lines of at most `width` columns; one that is wider has a line of its own."""
    line = parts[0]
    for part in parts[1:]:
        if columns(f"{line}  {part}") > width:
            yield line
            line = part
        else:
            line += f"  {part}"
    yield line


def visible(token: int, tokenizer: tiktoken.Encoding) -> str:
    """A token as Python would write it, so that blanks and line ends are seen; as bytes where it cuts a character.

    Of a long one, the beginning.
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
