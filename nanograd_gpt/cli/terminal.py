"""Protection of a terminal from control characters in texts that a model, a file, a path or a server supplies.

A terminal obeys them: they can retitle it, hide or forge lines, and on some run commands.  Files and pipes get every
text as it is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# C0 but for tab and line ends, DEL, C1, line and paragraph separators, and marks that reorder a line's text
CONTROLS = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def escaped(text: str) -> str:
    """Text with each control character but tab and line ends as its escape: backslash, x1b for ESC."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class EscapingStream:
    """A text stream to a terminal that escapes what is written; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream  # for control characters of the package's own, such as colours

    def write(self, text: str) -> int:
        """Write a text, escaped; returns the number of its characters."""
        self.raw.write(escaped(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def open_missing_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr the null device in their place.

    The next files it opens would get their numbers otherwise, and what a library prints would be written into them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the missing one
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def unescaped(stream: Any) -> Any:
    """The stream under an EscapingStream, or any other stream itself."""
    return stream.raw if isinstance(stream, EscapingStream) else stream


@contextmanager
def protected_terminal() -> Iterator[None]:
    """Escape control characters on stdout in this block, if it is a terminal.

    stderr has a progress bar that moves the cursor; its messages are escaped where they are written.
    """
    stdout: Any = sys.stdout
    if stdout is None or not stdout.isatty():
        yield
        return
    escaping: Any = EscapingStream(stdout)  # has all of a TextIO through __getattr__
    sys.stdout = escaping
    try:
        yield
    finally:
        sys.stdout = stdout
