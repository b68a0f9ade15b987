"""Judgement of the end of a command: one line for a failure, no traceback, a code that programs know."""

from __future__ import annotations

CODES = {0, 1, 2, 3, 129, 130, 141, 143}
OTHERS = ("OpenBLAS", "note: ", "ERROR: ld.so", "usage: ")  # begins of lines that are not errors of the package's


def wrong(code: int, out: str, err: str, heard: bool = True) -> str | None:
    """The fault of the end of a command, or None; heard: whether its stderr could be written."""
    lines = [line for line in err.splitlines() if line and not line.startswith(OTHERS)]
    if "Traceback" in err or "Traceback" in out:
        return "a traceback"
    if (code if code >= 0 else 128 - code) not in CODES:
        return f"exit {code}"
    if "Errno" in err:
        return "the number of an error"
    if code and heard and [line[:7] for line in lines] != ["error: "]:
        return f"{len(lines)} lines"
    if not code and lines:
        return "noise"
    if len(err) > 2000:
        return f"{len(err)} characters"
    return None
