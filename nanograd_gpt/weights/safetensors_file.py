"""Arrays in safetensors files, read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..backend.contract import HostArray
from ..errors import InputError

CHUNK_BYTES = 1 << 22  # bytes
DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # supported dtypes, by safetensors' names
PICKLE_MAGIC = b"PK\x03\x04", b"\x80"  # first bytes of PyTorch's files: a zip with a pickle, and a bare pickle


@dataclass(frozen=True)
class StoredTensor:
    """An array in a file.  Rows are read, not memory-mapped: mapped pages count towards resident memory."""

    path: Path
    start: int  # offset of its first byte
    shape: tuple[int, ...]
    kind: str  # dtype, by safetensors' names

    def __getitem__(self, rows: slice) -> HostArray:
        """Read the rows of a slice with step 1.  Raises InputError if the file has been truncated."""
        first, stop, _ = rows.indices(self.shape[0])
        width, dtype = prod(self.shape[1:]), np.dtype(DTYPES[self.kind])
        n = (stop - first) * width
        array: HostArray = np.fromfile(self.path, dtype, n, offset=self.start + first * width * dtype.itemsize)
        if len(array) < n:
            raise InputError(f"model: {self.path} was truncated while it was read; load it again")
        if self.kind == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.reshape(stop - first, *self.shape[1:])


def row_chunks(stored: StoredTensor) -> Iterator[tuple[slice, HostArray]]:
    """Yield an array's rows in chunks: (slice, values)."""
    rows = stored.shape[0]
    n = max(1, CHUNK_BYTES // max(1, prod(stored.shape[1:]) * 8))
    for start in range(0, rows, n):
        part = slice(start, min(start + n, rows))
        yield part, stored[part]


def open_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Read a file's header; returns its arrays by name, not read yet, and its metadata.

    Raises InputError for a file that is missing, truncated, not safetensors, or a pickle, which can run code.
    """
    if not path.is_file():
        raise InputError(f"model: {path} does not exist; give a safetensors file, or a directory with one")
    with path.open("rb") as file:
        begins = file.read(9)
    if path.suffix == ".npz":
        raise InputError(
            f"model: {path} is a file of NumPy's, which has no configuration; write a GPT's weights with save_model, "
            "and load others with model.load_state_dict(np.load(FILE))"
        )
    if begins.startswith(PICKLE_MAGIC) and begins[8:] != b"{":  # a header length may begin with \x80 too
        raise InputError(
            f"model: {path} is a pickle, which can run code when loaded, so it is refused; with PyTorch, convert "
            "its state_dict to safetensors: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
            "'model.safetensors')"
        )
    try:
        # safe_open validates the header: the arrays cover the data exactly
        with safe_open(path, framework="numpy") as checked:
            metadata: dict[str, str] = checked.metadata() or {}
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
    except (SafetensorError, ValueError, OSError):
        raise InputError(f"model: {path} is not a safetensors file, or is truncated or damaged") from None
    header.pop("__metadata__", None)
    return {
        name: StoredTensor(path, 8 + size + entry["data_offsets"][0], tuple(entry["shape"]), entry["dtype"])
        for name, entry in header.items()
    }, metadata


def open_shards(index: Path) -> dict[str, StoredTensor]:
    """Open all files listed in an index (model.safetensors.index.json); returns their arrays, not read yet.

    Raises InputError for a damaged index, and for a file that open_safetensors refuses.
    """
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        names = {str(name) for name in found["weight_map"].values()}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"model: {index} is not an index of weights, or is damaged ({error})") from None
    arrays: dict[str, StoredTensor] = {}
    for name in sorted(names):
        if Path(name).name != name:
            raise InputError(f"model: {index} names {name!r}, which is not a file beside it")
        more, _ = open_safetensors(index.with_name(name))
        if twice := arrays.keys() & more.keys():
            raise InputError(
                f"model: {index}: {min(twice)} is in two files, {name} and an earlier one; save the weights again"
            )
        arrays |= more
    return arrays
