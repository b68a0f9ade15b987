"""A conversation at a terminal: a line from you, then as much as the model writes, and so on in one text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

HOW = "Write a line and the model goes on; an empty one lets it write more; Ctrl-C stops it, Ctrl-D ends."


def converse(write: Callable[[str], Iterator[str]], start: str = "") -> None:
    """Ask for lines until there are no more; `write` continues all the text so far, piece by piece.

    Ctrl-C stops what the model writes, and keeps what is there.
    """
    print(HOW)
    text = start
    if start:
        text += _shown(write(text), before=start)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        if line:
            text += f"\n{line}\n" if text else f"{line}\n"
        if text:
            text += _shown(write(text))


def _shown(pieces: Iterator[str], before: str = "") -> str:
    """Print pieces as they come, to the last or to Ctrl-C; returns them."""
    print(before, end="", flush=True)
    shown = ""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
            shown += piece
    except KeyboardInterrupt:
        print(" [stopped]", end="")
    print()
    return shown
