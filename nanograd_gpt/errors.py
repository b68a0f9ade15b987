"""Errors that a person can act on: one line that says what, where, the value, what is allowed, what to do next."""

from __future__ import annotations

from difflib import get_close_matches

CLOSE = 0.75  # of 1: a lower similarity suggests words that nobody meant
LISTED = 12  # words; a longer list hides the message


class InputError(ValueError):
    """Something given to us cannot be used; the command line prints it as `error: ...` and exits with code 2."""


class RunError(RuntimeError):
    """Something failed while running that was not the input's fault; the command line exits with code 1."""


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message about an unknown word: a likely correction, or all there are if they are few."""
    close = get_close_matches(word, known, n=1, cutoff=CLOSE)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; choose one of {', '.join(known)}" if len(known) <= LISTED else ""
