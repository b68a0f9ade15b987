"""Text coloured by surprise: the less probable the model found a token, the stronger its colour."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import inf, log

LEAST = (0.5, 0.1, 0.01, 0.001)  # the least probability of levels 0 .. 3; below the last one is level 4
LEVELS = ("50% or more", "10 to 50%", "1 to 10%", "0.1 to 1%", "below 0.1%")


def level(probability: float) -> int:
    """The level of surprise of a token with this probability: 0, expected, to 4, very surprising."""
    return sum(probability < least for least in LEAST)


def nats(probability: float) -> float:
    """The surprise at a token with this probability: minus its log."""
    return -log(probability) if probability > 0 else inf


def visible_text(text: str) -> str:
    """Text with control characters as escapes; a line feed is shown, and ends its line too."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return "↵\n" if character == "\n" else character.encode("unicode_escape").decode()


def surprise_html(tokens: Sequence[str], probabilities: Sequence[float | None]) -> str:
    """Tokens as HTML in the classes s0 .. s4; one without a probability, the first, has no class."""
    return "".join(_token_html(token, p) for token, p in zip(tokens, probabilities, strict=True))


def _token_html(token: str, probability: float | None) -> str:
    space, word = split_space(token)
    attributes = ""
    if probability is not None:
        title = f"{probability:.2%}, {nats(probability):.2f} nats"
        attributes = f' class="s{level(probability)}" title="{title}"'
    return f"{space}<span{attributes}>{escape(visible_text(word))}</span>"


def split_space(token: str) -> tuple[str, str]:
    """A token's leading space and the rest, as the space is not coloured; all in the rest if there is nothing else."""
    word = token.removeprefix(" ")
    return (" ", word) if word and word != token else ("", token)


def legend_html() -> str:
    """The levels, each in its colour."""
    return " ".join(f'<span class="s{i}">{name}</span>' for i, name in enumerate(LEVELS))
