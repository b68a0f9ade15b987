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
    """Text with control characters as escapes; a line feed is shown as one, and ends its line too."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = character.encode("unicode_escape").decode()
    return code + "\n" if character == "\n" else code


def surprise_html(tokens: Sequence[str], probabilities: Sequence[float | None]) -> str:
    """Tokens as HTML in the classes s0 .. s4; one without a probability, the first, has no class."""
    return "".join(
        f"<span>{escape(visible_text(token))}</span>"
        if p is None
        else f'<span class="s{level(p)}" title="{p:.2%}, {nats(p):.2f} nats">{escape(visible_text(token))}</span>'
        for token, p in zip(tokens, probabilities, strict=True)
    )


def legend_html() -> str:
    """The levels, each in its colour."""
    return " ".join(f'<span class="s{i}">{name}</span>' for i, name in enumerate(LEVELS))
