"""Arrays in a file, of which no more than a few rows are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from ..backend.contract import HostArray
from ..errors import InputError

PIECE = 1 << 24  # bytes
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64"}
PICKLES = b"PK\x03\x04", b"\x80"  # how PyTorch's files begin: a zip with a pickle in it, and a bare one


class Stored(Protocol):
    """What is asked of an array in a file.  NumPy's own, mapped from a file, are of this kind too."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: slice) -> HostArray: ...


class InSafetensors:
    """One array of a safetensors file."""

    def __init__(self, part: Any) -> None:
        self.part = part
        self.shape: tuple[int, ...] = tuple(part.get_shape())
        kind = part.get_dtype()
        self.dtype = DTYPES.get(kind, kind)  # bfloat16, say, is none of NumPy's

    def __getitem__(self, rows: slice) -> HostArray:
        array: HostArray = self.part[rows]
        return array


def pieces(stored: Stored) -> Iterator[tuple[slice, HostArray]]:
    """The rows of an array, some at a time: which, and what they hold."""
    rows = stored.shape[0]
    n = max(1, PIECE // max(1, int(np.prod(stored.shape[1:])) * 8))
    for start in range(0, rows, n):
        part = slice(start, min(start + n, rows))
        yield part, stored[part]


def open_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """A file's arrays by name, none of them read yet, and the text entries of its header.

    Raises InputError for a file that is missing, cut, no safetensors file, or a pickle: reading one can run code.
    """
    if not path.is_file():
        raise InputError(f"model: {path} does not exist; give a safetensors file, or a directory with one")
    with path.open("rb") as beginning:
        if beginning.read(4).startswith(PICKLES):
            raise InputError(
                f"model: {path} is a pickle, which can run code as it is read, so it is not; where PyTorch is, turn "
                "its state_dict into safetensors: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
                "'model.safetensors')"
            )
    try:
        file: Any = safe_open(path, framework="numpy")
        return {name: InSafetensors(file.get_slice(name)) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"model: {path} is not a safetensors file, or is cut or damaged ({error})") from None
