"""Show each token's probability, and the likeliest others."""

from __future__ import annotations

import os
import sys
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
from ..viz.surprise import LEVELS, level, split_space, visible_text
from .options import add_model, model_from
from .prompt import PROMPT, add_prompt, note_long_prompt, prompt_from
from .terminal import unescaped

LONGEST = 20  # columns of a token
MIN_WIDTH = 72  # columns of the table: fits one long token and one long guess

# Terminal codes for the levels of surprise 1 .. 4: a background with black or white text, on which it has a contrast
# above 4.5 whatever the terminal's own colours; level 0 keeps those
COLOURS = ("", "48;5;223;38;5;16", "48;5;215;38;5;16", "48;5;202;38;5;16", "48;5;160;38;5;231")


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser, "text to explain")
    parser.add_argument("--top", type=int, metavar="N", default=5, help="alternatives to show for each token [5]")


def run(options: Namespace) -> int:
    model, tokenizer, _, own_prompt = model_from(options)
    given = prompt_from(options)
    prompt = own_prompt or PROMPT if given is None else given
    ids = text_to_token_ids(prompt, tokenizer)[0]
    if not ids.size:
        raise InputError("prompt: the prompt is empty; give a text to explain")
    note_long_prompt(ids, model.config.context_length)
    ids = ids[-model.config.context_length :]
    with np.errstate(all="ignore"):  # non-finite weights are reported in one line
        positions = explain_next(model, ids, options.top, padding_ids(tokenizer, model.config.vocab_size))
    if _shows_colours():
        levels = " ".join(_coloured(name, i) for i, name in enumerate(LEVELS))
        coloured = f"{coloured_text(positions, tokenizer)}\n\nprobability of a token: {levels}\n"
        print(coloured, file=unescaped(sys.stdout))  # its tokens are escaped one by one
    print("each token's probability and rank after the text before it, and the most likely alternatives (*: this one)")
    for line in _table(positions, tokenizer, max(MIN_WIDTH, get_terminal_size().columns)):
        print(line)
    return 0


def _shows_colours() -> bool:
    """Whether stdout is a terminal that shows colours, and NO_COLOR is not set (see no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured_text(positions: list[Position], tokenizer: tiktoken.Encoding) -> str:
    """The text for a terminal, each token coloured by its probability; the first one, which has none, is not."""
    actual = [None, *(position.actual for position in positions[:-1])]
    text = ""
    for position, own in zip(positions, actual, strict=True):
        raw = tokenizer.decode_single_token_bytes(position.token)
        space, word = split_space(raw.decode(errors="backslashreplace"))
        text += space + _coloured(visible_text(word), 0 if own is None else level(own.probability))
    return text


def _coloured(text: str, surprise: int) -> str:
    """Text in the colours of a level of surprise, line by line: a background would fill the rest of a line."""
    code = COLOURS[surprise]
    return "\n".join(f"\x1b[{code}m{line}\x1b[0m" if code and line else line for line in text.split("\n"))


def _table(positions: list[Position], tokenizer: tiktoken.Encoding, width: int) -> Iterator[str]:
    """Yield the lines of a table at most `width` columns wide; guesses that do not fit continue on the next line.

    A row is a token with its own probability, from the position before it; the last row is the token after the text.
    """
    tokens = [*(visible(position.token, tokenizer) for position in positions), "(next)"]
    digits = max(2, len(str(len(tokens))))
    longest = max(columns(token) for token in [*tokens, "token"])
    head = f"{'#':>{digits}}  {_padded('token', longest)}  {'prob.':>6}  {'rank':>6}  "
    yield f"{head}most likely alternatives"
    yield f"{1:>{digits}}  {_padded(tokens[0], longest)}  {'':>6}  {'':>6}  (the first token is given)"
    for i, (token, before) in enumerate(zip(tokens[1:], positions, strict=True), start=2):
        actual = before.actual
        probability, rank = ("", "") if actual is None else (_percent(actual.probability), actual.rank)
        begin = f"{i:>{digits}}  {_padded(token, longest)}  {probability:>6}  {rank:>6}  "
        guesses = [
            f"{'*' if actual and guess.token == actual.token else ''}{visible(guess.token, tokenizer)} "
            f"{_percent(guess.probability)}"
            for guess in before.candidates
        ]
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
