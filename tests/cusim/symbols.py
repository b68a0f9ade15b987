"""The line of a .cu file that an instruction of a compiled kernel comes from, by binutils where they are installed."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from .translate import INCLUDE

EXPORTED = "cusim_launch"


def line_of(library: ctypes.PyDLL, address: int) -> str | None:
    """'norm.cu line 31' of an address in a loaded library; None where it cannot be found."""
    loaded = ctypes.cast(getattr(library, EXPORTED), ctypes.c_void_p).value or 0
    in_file = [line.split()[0] for line in _output("nm", "-D", library._name) if line.endswith(f" {EXPORTED}")]
    if not in_file:
        return None
    offset = address - loaded + int(in_file[0], 16)
    for place in _output("addr2line", "-i", "-e", library._name, hex(offset)):
        file, _, line = place.split(" ")[0].rpartition(":")
        name = Path(file).name
        if (
            name.endswith((".cu", ".cuh")) and not (INCLUDE / name).exists()
        ):  # not in a twin of a header, but its caller
            return f"{name} line {line}"
    return None


def _output(*command: str) -> list[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return []
