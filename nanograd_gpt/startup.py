"""The end of a command that fails before its own code runs, while NumPy and the rest of the package are imported.

One line, as for every failure.  A program that imports the package keeps Python's traceback.
"""

from __future__ import annotations

import sys  # and nothing else yet: imports take time, in which Ctrl-C may come

TYPE_CHECKING = False  # as typing's, whose import takes longest
if TYPE_CHECKING:
    from types import TracebackType

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


def is_a_librarys(traceback: TracebackType | None) -> bool:
    """Tell whether an error came from another package, while a module of this one imported it."""
    ours, from_ours, imported = True, False, False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        ours = code.co_filename.startswith(__file__.removesuffix("startup.py"))
        imported = imported or (from_ours and not ours and code.co_name == "<module>")
        from_ours = from_ours or ours
        traceback = traceback.tb_next
    return imported and not ours


def say_one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print what ended the process: Ctrl-C, or a library that cannot be loaded; anything else with its traceback."""
    _reserve.clear()
    if not issubclass(kind, KeyboardInterrupt | ImportError | MemoryError) and not is_a_librarys(traceback):
        sys.__excepthook__(kind, error, traceback)
        return
    while not isinstance(error, KeyboardInterrupt) and (cause := error.__cause__ or error.__context__) is not None:
        error = cause  # NumPy wraps it in twenty lines of advice
    if isinstance(error, KeyboardInterrupt):
        message = "interrupted" if threads_start() else NO_THREADS
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"a library could not be loaded ({reason}); reinstall it, or free memory"
    if sys.stderr is not None:
        print(f"error: {message}", file=sys.stderr)


_reserve: list[bytes] = []  # memory for that line, where all other is used

if is_command():
    _reserve.append(bytes(2 << 20))
    sys.excepthook = say_one_line
