"""The prompt of a command: from --prompt, from a file, or from standard input."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..backend.contract import Ints
from ..errors import InputError, counted
from ..files import UnreadableError, read_bytes
from .options import note, user_path

MAX_PROMPT = 16 << 20  # bytes; any context has fewer
PROMPT = "Every effort moves you"


def add_prompt(parser: Any, what: str = "text to continue") -> None:
    """Add --prompt and --prompt-file."""
    parser.add_argument("--prompt", metavar="TEXT", help=f"{what}; -: standard input [its run's own, or {PROMPT!r}]")
    parser.add_argument(
        "--prompt-file",
        type=user_path,
        metavar="FILE",
        help="a UTF-8 file to read the prompt from; a final newline is dropped [none]",
    )


def prompt_from(options: Namespace) -> str | None:
    """The prompt that was given, without the newline that ends a file or standard input; None if none was given.

    Raises InputError for two prompts, and for input that cannot be read or is not UTF-8.
    """
    if options.prompt_file is not None:
        if options.prompt is not None:
            raise InputError("prompt_file: the prompt is given already; leave out --prompt or --prompt-file")
        text = _decoded(_read(options.prompt_file), "prompt_file", str(options.prompt_file))
        if not text:
            raise InputError(f"prompt_file: {options.prompt_file} is empty; give a file with a text")
        return text
    if options.prompt == "-":
        raw = sys.stdin.buffer.read(MAX_PROMPT + 1)
        if len(raw) > MAX_PROMPT:
            raise InputError(f"prompt: standard input has more than {MAX_PROMPT:,} bytes; shorten it")
        return _decoded(raw, "prompt", "standard input")
    return None if options.prompt is None else text_of(options.prompt, "prompt")


def text_of(argument: str, name: str) -> str:
    """An argument as text: where Python could not decode it in the locale's encoding, it is taken as UTF-8.

    Raises InputError if it is not.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:  # bytes that Python has kept as surrogates
        return _decoded(os.fsencode(argument), name, "the text")
    return argument


def note_long_prompt(ids: Ints, context: int) -> None:
    """Print a note for a prompt (T,) longer than the context: the model sees its end alone, as in the library."""
    if len(ids) > context:
        note(f"the prompt has {counted(len(ids), 'token')}; the model sees the last {context}, its context")


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_PROMPT)
    except UnreadableError as error:
        raise InputError(f"prompt_file: {path} cannot be read ({error}); give a UTF-8 text file") from None


def _decoded(raw: bytes, name: str, what: str) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: {what} is not UTF-8 text (byte {error.start}); convert it to UTF-8 first") from None
    return text.removesuffix("\n").removesuffix("\r")
