"""The end of a command that fails before its own code runs, while NumPy and the rest of the package are imported.

One line, as for every failure.  A program that imports the package keeps Python's traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread
from types import TracebackType

SCRIPT = "nanograd-gpt"
NO_THREADS = "the system starts no more threads; raise its limit (ulimit -u), or set OPENBLAS_NUM_THREADS=1"


def is_command() -> bool:
    """Tell whether this process is the installed script, or `python -m nanograd_gpt` as it imports the package."""
    name = sys.argv[0] if getattr(sys, "argv", None) else ""
    return name == "-m" or Path(name).stem == SCRIPT


def threads_start() -> bool:
    """Tell whether a thread can be started; if not, it was OpenBLAS that sent SIGINT to its own process."""
    try:
        Thread(target=int, daemon=True).start()
    except RuntimeError:
        return False
    return True


def say_one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print what ended the process: Ctrl-C, or a library that cannot be loaded; anything else with its traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"error: {'interrupted' if threads_start() else NO_THREADS}", file=sys.stderr)
    elif issubclass(kind, ImportError | MemoryError):
        while (cause := error.__cause__ or error.__context__) is not None:  # NumPy wraps it in twenty lines of advice
            error = cause
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"error: a library could not be loaded ({reason}); reinstall it, or free memory", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if is_command():
    sys.excepthook = say_one_line
