"""The exit code of a command, and one line for what ended it: 2 for usage, 3 for nan, 130 for Ctrl-C, 1 for others."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES, ENAMETOOLONG, ENOTDIR, EPERM, EROFS

from ..errors import InputError, NonFiniteError, RunError
from ..files import FULL, not_written
from .options import notices_as_notes
from .signals import is_closed_pipe
from .terminal import escaped, protected_terminal

DENIED = (EACCES, EPERM, EROFS)
USAGE = (ENAMETOOLONG, ENOTDIR)
LONG_WORD = re.compile(r"(\S{300})\S{400,}(\S{300})")  # longer than a path of any use


def exit_code_of(command: Callable[[], int], where: str = "") -> int:
    """Run a command; returns its exit code.  An error is one line on stderr; `where` names the process in it."""
    try:
        try:
            with protected_terminal(), notices_as_notes():
                return command()
        finally:
            sys.stdout.flush()  # here, where its failure is reported in one line
    except InputError as error:
        return _failed(error, 2, where)
    except RunError as error:
        return _failed(error, 3 if isinstance(error, NonFiniteError) else 1, where)
    except MemoryError as error:
        return _failed(f"out of memory ({error}); use a smaller model, batch or context", 1, where)
    except OSError as error:
        if is_closed_pipe(error):
            with suppress(OSError):
                sys.stderr.close()
            return 1
        if error.errno in FULL and error.filename is not None:
            return _failed(not_written(error.filename, error), 1, where)
        if error.filename is not None:
            remedy = "; change its permissions, or choose another place" if error.errno in DENIED else ""
            return _failed(f"{error.strerror}: {error.filename}{remedy}", 2 if error.errno in USAGE else 1, where)
        if error.errno is None:  # a library's own
            return _failed(error, 1, where)
        if isinstance(error, FileNotFoundError):
            return _failed("the current directory no longer exists; change to another one", 1, where)
        with suppress(OSError):
            sys.stdout.close()  # or the interpreter tries again at its end
        return _failed(not_written("the output", error), 1, where)  # what is not output is named: see writing_named
    except KeyboardInterrupt as error:
        return _failed(str(error) or "interrupted", 130, where)


def _failed(message: object, code: int, where: str) -> int:
    text = LONG_WORD.sub(r"\1...\2", " ".join(str(message).split()))
    with suppress(OSError):  # without a stderr that can be written, the code alone tells
        print(f"error: {escaped(where + text)}", file=sys.stderr)
    return code
