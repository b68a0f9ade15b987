"""Errors that a user can act on: one line with the setting, its value, what is allowed and what to do next."""

from __future__ import annotations

from difflib import get_close_matches


class InputError(ValueError):
    """Invalid input; the command line prints `error: ...` and exits with code 2."""


class RunError(RuntimeError):
    """A failure at run time that the input did not cause; the command line exits with code 1."""


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message about an unknown word: a close match, or all known words."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; choose one of {', '.join(known)}"
