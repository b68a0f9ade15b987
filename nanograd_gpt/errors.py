"""Errors that a person can act on: one line that says what, where, the value, what is allowed, what to do next."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us cannot be used; the command line prints it as `error: ...` and exits with code 2."""


class RunError(RuntimeError):
    """Something failed while running that was not the input's fault; the command line exits with code 1."""
