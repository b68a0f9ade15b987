"""Errors of the scripts and benchmarks in one line: exit code 2 for bad input, 1 for a failed run.

Import it first: a library that the imports below it do not find is then one line too.  Only the standard library is
imported here.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTS: list[int] = []  # by Ctrl-C
IN_A_CLONE = {"cusim": "tests/cusim"}  # imported from the clone's own folders
PACKAGES = {  # others come with nanograd_gpt
    "torch": "torch==2.13.0",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "cupy": "'cupy-cuda13x[ctk]', or 'cupy-cuda12x[ctk]' for a driver of CUDA 12",
}


class UsageError(Exception):
    """Bad input to a script, or a library that it needs and that is not installed."""


class Parser(ArgumentParser):
    """A script's options, where a wrong one is a UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {self.prog} --help lists all options")


def run(main: Callable[[], int]) -> int:
    """Call a script's main; returns the exit code.  Errors that a user can act on become one line on stderr."""
    try:
        return main()
    except (Exception, KeyboardInterrupt) as error:  # kinds in _described become one line; any other is raised again
        if (described := _described(error)) is None:
            raise  # an error of the program: its traceback is needed
        return _failed(*described)


def need(*libraries: str) -> None:
    """Raise UsageError for the first library that is not installed."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise UsageError(_missing(library))


def writable(directory: Path) -> Path:
    """Create a directory if it is missing, and return it.  Raises UsageError if no file can be created in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--out: cannot write to {directory} ({reason}); choose another directory") from None


def _missing(library: str) -> str:
    if library in IN_A_CLONE:
        return f"{Path(sys.argv[0]).name} needs {IN_A_CLONE[library]}; run it in a clone of nanograd_gpt"
    package = PACKAGES.get(library)
    install = f"pip install {package}" if package else "pip install -e . in the clone of nanograd_gpt"
    return f"{Path(sys.argv[0]).name} needs {library}, which is not installed; {install}"


def _described(error: BaseException) -> tuple[object, int] | None:
    """The message and exit code of an error that a user can act on, else None."""
    own = sys.modules.get("nanograd_gpt.errors")  # not imported before it is needed
    if INTERRUPTS or isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, UsageError) or (own is not None and isinstance(error, own.InputError)):
        return error, 2
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(error.name.partition(".")[0]), 2
    if own is not None and isinstance(error, own.RunError):
        return error, 1
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); use --quick, or a machine with more", 1
    if isinstance(error, BrokenPipeError):
        return "", 1  # nobody reads the output any more
    if isinstance(error, OSError):
        reason = error.strerror or error
        return f"{reason}: {error.filename}" if error.filename else f"the output could not be written ({reason})", 1
    return None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and remember it: what it interrupts, such as an import, may raise another error."""
    INTERRUPTS.append(number)
    signal.default_int_handler(number, frame)


def _failed(message: object, code: int) -> int:
    if message:
        print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        with suppress(OSError):
            sys.stdout.close()  # or the interpreter tries again at its end
    return code


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that no `run` caught, during imports or in a script of cells, and exit with its code."""
    if (described := _described(error)) is None:
        sys.__excepthook__(kind, error, trace)
    else:
        raise SystemExit(_failed(*described))  # the interpreter exits with a hook's code


sys.excepthook = _in_one_line
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)
