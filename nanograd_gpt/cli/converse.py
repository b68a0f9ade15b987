"""An interactive session at a terminal, where the user and the model extend one text in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module

HELP = "Enter a line for the model to continue, or an empty one for more.  Ctrl-C stops the model, Ctrl-D quits."


def converse(write: Callable[[str], Iterator[str]], start: str = "") -> None:
    """Read lines until the end of input; `write` yields a continuation of the whole text so far, in pieces.

    Ctrl-C stops a continuation; the part already printed stays in the text.
    """
    with suppress(ImportError):  # Windows has none: its terminals edit lines themselves
        import_module("readline")  # input() edits lines by it, and recalls earlier ones
    print(HELP)
    text = start
    if start:
        text += _print_pieces(write(text), before=start)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        if line:
            text += f"\n{line}\n" if text else f"{line}\n"
        if text:
            text += _print_pieces(write(text))


def _print_pieces(pieces: Iterator[str], before: str = "") -> str:
    """Print pieces as they arrive, until the last one or Ctrl-C; returns the printed text."""
    print(before, end="", flush=True)
    printed = ""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
            printed += piece
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    print()
    return printed
