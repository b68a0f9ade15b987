"""Arrays in safetensors files, read a few rows at a time.

Files that this package writes have checksums: the metadata's "crc32" is a word for the header and one for each array,
by name, each the CRC-32 in hexadecimal.  The header's is of its canonical JSON without "crc32".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from ..backend.contract import HostArray
from ..documents import json_object, read_json
from ..errors import InputError
from ..files import UnreadableError, reason_of, regular_size

CHUNK_BYTES = 1 << 22  # bytes
MAX_HEADER = 8 << 20  # bytes; a GPT-2 of 3,000 layers has less
MAX_INDEX = 8 << 20  # bytes of an index of shards
DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # supported dtypes, by safetensors' names
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32}
BITS |= {"U64": 64, "I64": 64, "F64": 64, "C64": 64}
BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
CHECKSUMS, METADATA = "crc32", "__metadata__"  # keys
PICKLE_MAGIC = b"PK\x03\x04", b"\x80"  # first bytes of PyTorch's files: a zip with a pickle, and a bare pickle


@dataclass(frozen=True)
class StoredTensor:
    """An array in a file.  Rows are read, not memory-mapped: mapped pages count towards resident memory."""

    path: Path
    start: int  # offset of its first byte
    shape: tuple[int, ...]
    kind: str  # dtype, by safetensors' names
    checksum: int | None = None  # CRC-32 of its bytes

    def __getitem__(self, rows: slice) -> HostArray:
        """Read the rows of a slice with step 1.  Raises InputError if the file has been truncated."""
        return self.decoded(self.raw(rows))

    def raw(self, rows: slice) -> HostArray:
        """Read rows as they are stored.  Raises InputError if the file has been truncated."""
        first, stop, _ = rows.indices(self.shape[0])
        width, dtype = prod(self.shape[1:]), np.dtype(DTYPES[self.kind])
        n = (stop - first) * width
        array: HostArray = np.fromfile(self.path, dtype, n, offset=self.start + first * width * dtype.itemsize)
        if len(array) < n:
            raise InputError(f"model: {self.path} was truncated while it was read; load it again")
        return array.reshape(stop - first, *self.shape[1:])

    def decoded(self, raw: HostArray) -> HostArray:
        """Convert bfloat16, the upper half of a float32; other dtypes are NumPy's too."""
        return (raw.astype(np.uint32) << 16).view(np.float32) if self.kind == "BF16" else raw


def row_chunks(stored: StoredTensor) -> Iterator[tuple[slice, HostArray]]:
    """Yield an array's rows in chunks: (slice, values).

    Raises InputError, instead of the last chunk, if the array has a checksum and it differs.
    """
    rows, checksum = stored.shape[0], 0
    n = max(1, CHUNK_BYTES // max(1, prod(stored.shape[1:]) * 8))
    for start in range(0, rows, n):
        part = slice(start, min(start + n, rows))
        raw = stored.raw(part)
        if stored.checksum is not None:
            checksum = crc32(raw.data, checksum)
            if part.stop == rows and checksum != stored.checksum:
                raise InputError(f"model: {stored.path} is damaged: the checksum of its data differs; use another copy")
        yield part, stored.decoded(raw)


def open_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Read a file's header; returns its arrays by name, not read yet, and its metadata.

    Raises InputError for a file that is missing, truncated, not safetensors, or a pickle, which can run code; and for a
    FIFO or a device.
    """
    if not os.path.exists(path):  # False for a name that is too long too
        raise InputError(f"model: {path} does not exist; give a safetensors file, or a directory with one")
    if path.suffix == ".npz":
        raise InputError(
            f"model: {path} is a file of NumPy's, which has no configuration; write a GPT's weights with save_model, "
            "and load others with model.load_state_dict(np.load(FILE))"
        )
    try:
        size = regular_size(path)
        with path.open("rb") as file:
            begins = file.read(9)
            if begins.startswith(PICKLE_MAGIC) and begins[8:] != b"{":  # a header length may begin with \x80 too
                raise InputError(
                    f"model: {path} is a pickle, which can run code when loaded, so it is refused; with PyTorch, "
                    "convert its state_dict to safetensors: safetensors.torch.save_file(torch.load(FILE, "
                    "weights_only=True), 'model.safetensors')"
                )
            length = _header_length(begins, size)
            file.seek(8)
            header = json_object(file.read(length))
        metadata = _metadata(header)
        offsets = {name: _offsets(name, entry) for name, entry in header.items()}
        _check_coverage(offsets, size - 8 - length)
        checksums = _checksums(header, metadata)
    except InputError:
        raise
    except (UnreadableError, OSError) as error:
        reason = reason_of(error)
        raise InputError(f"model: {path} is not a safetensors file, or is truncated or damaged ({reason})") from None
    return {
        name: StoredTensor(path, 8 + length + start, tuple(header[name]["shape"]), header[name]["dtype"], checksum)
        for (name, (start, _)), checksum in zip(offsets.items(), checksums, strict=True)
    }, metadata


def _header_length(begins: bytes, size: int) -> int:
    length = int.from_bytes(begins[:8], "little")
    if len(begins) < 8 or length > size - 8:
        raise UnreadableError(f"its {size:,} bytes are fewer than its header's")
    if length > MAX_HEADER:
        raise UnreadableError(f"its header of {length:,} bytes is above the limit of {MAX_HEADER:,}")
    return length


def _metadata(header: dict[str, Any]) -> dict[str, str]:
    """Take the metadata out of a header."""
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise UnreadableError("its metadata is not a mapping of texts")
    return metadata


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    """Return where an array's bytes start and end, counted from the first array."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UnreadableError(f"{name[:80]!r} has no dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BITS:
        raise UnreadableError(f"{name[:80]!r} has an unknown dtype")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise UnreadableError(f"{name[:80]!r} has a shape or data_offsets that are not lists of whole numbers")
    if len(offsets) != 2 or len(shape) > 8 or 8 * (offsets[1] - offsets[0]) != prod(shape) * BITS[kind]:
        raise UnreadableError(f"the shape of {name[:80]!r} does not fit its bytes")
    return offsets[0], offsets[1]


def _check_coverage(offsets: Mapping[str, tuple[int, int]], size: int) -> None:
    """Raise UnreadableError unless the arrays cover the data exactly."""
    end = 0
    for start, stop in sorted(offsets.values()):
        if start != end:
            raise UnreadableError(f"its arrays overlap or leave a gap at byte {min(start, end):,} of the data")
        end = stop
    if end != size:
        raise UnreadableError(f"it has {size:,} bytes of data, its header describes {end:,}")


# --- checksums


def header_checksum(header: Mapping[str, Any], metadata: Mapping[str, str]) -> int:
    """Return the CRC-32 of a header's canonical JSON; checksums in its metadata are left out."""
    rest = {key: text for key, text in metadata.items() if key != CHECKSUMS}
    return crc32(json.dumps([header, rest], sort_keys=True).encode())


def _checksums(header: Mapping[str, Any], metadata: Mapping[str, str]) -> list[int | None]:
    """Return the checksum of each array in the header's order, None without one."""
    if CHECKSUMS not in metadata:
        return [None] * len(header)
    words = metadata[CHECKSUMS].split(" ")
    try:
        of_header, *of_arrays = [int(word, 16) for word in words]
    except ValueError:
        raise UnreadableError("its checksums are damaged") from None
    if len(of_arrays) != len(header) or of_header != header_checksum(header, metadata):
        raise UnreadableError("the checksum of its header differs")
    by_name = dict(zip(sorted(header), of_arrays, strict=True))
    return [by_name[name] for name in header]


# --- several files


def open_shards(index: Path) -> dict[str, StoredTensor]:
    """Open all files listed in an index (model.safetensors.index.json); returns their arrays, not read yet.

    Raises InputError for a damaged index, and for a file that open_safetensors refuses.
    """
    try:
        places = read_json(index, MAX_INDEX).get("weight_map")
    except UnreadableError as error:
        raise InputError(f"model: {index} is not an index of weights, or is damaged ({error})") from None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"model: {index} is not an index of weights, or is damaged (it has no weight_map of texts)")
    arrays: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        if name in ("", ".", "..") or Path(name).name != name:
            raise InputError(f"model: {index} names {name!r}, which is not a file beside it")
        more, _ = open_safetensors(index.with_name(name))
        if twice := arrays.keys() & more.keys():
            raise InputError(
                f"model: {index}: {min(twice)} is in two files, {name} and an earlier one; save the weights again"
            )
        arrays |= more
    return arrays
