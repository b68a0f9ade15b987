"""The end of a command that fails before its own code runs, while NumPy and the rest of the package are imported.

One line, as for every failure.  A program that imports the package keeps Python's traceback.
"""

from __future__ import annotations

import sys  # and nothing else yet: imports take time, in which Ctrl-C may come

NO_THREADS = "the system starts no more threads; raise its limit (ulimit -u), or set OPENBLAS_NUM_THREADS=1"


def is_command() -> bool:
    """Tell whether this process is the installed script, or `python -m nanograd_gpt` as it imports the package."""
    name: str = (getattr(sys, "argv", None) or [""])[0]
    return name == "-m" or name.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") == "nanograd-gpt"


def threads_start() -> bool:
    """Tell whether a thread can be started; if not, it was OpenBLAS that sent SIGINT to its own process."""
    from threading import Thread

    try:
        Thread(target=int, daemon=True).start()
    except RuntimeError:
        return False
    return True


def say_one_line(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    """Print what ended the process: Ctrl-C, or a library that cannot be loaded; anything else with its traceback."""
    if not issubclass(kind, KeyboardInterrupt | ImportError | MemoryError):
        sys.__excepthook__(kind, error, error.__traceback__)
        return
    while (cause := error.__cause__ or error.__context__) is not None:  # NumPy wraps it in twenty lines of advice
        error = cause
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted" if threads_start() else NO_THREADS
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"a library could not be loaded ({reason}); reinstall it, or free memory"
    if sys.stderr is not None:
        print(f"error: {message}", file=sys.stderr)


if is_command():
    sys.excepthook = say_one_line
