"""Errors that a user can act on: one line with the setting, its value, what is allowed and what to do next."""

from __future__ import annotations

from difflib import get_close_matches

CLOSE = 0.75  # similarity, 0 .. 1; below it, suggestions are mostly wrong
LISTED = 14  # words; more would hide the message


class InputError(ValueError):
    """Invalid input; the command line prints `error: ...` and exits with code 2."""


class RunError(RuntimeError):
    """A failure at run time that the input did not cause; the command line exits with code 1."""


class NonFiniteError(RunError):
    """A number became nan or infinite; the command line exits with code 3."""


class Notice(UserWarning):
    """Information that a user need not act on; the command line prints `note: ...`."""


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message about an unknown word: a close match, or all known words if they are few."""
    close = get_close_matches(word, known, n=1, cutoff=CLOSE)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose one of {', '.join(known)}" if len(known) <= LISTED else ""


def a_or_an(noun: str) -> str:
    """A noun with its article, by its first letter: "a list", "an ndarray"."""
    vowel = noun[:1].lower() in "aeiou" or noun.startswith("nd")
    return f"{'an' if vowel else 'a'} {noun}"


def counted(n: int, noun: str) -> str:
    """A number with its noun, which takes an s unless the number is 1: "1 token", "2,000 tokens", "3 batches"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}{'es' if noun.endswith('tch') else 's'}"
