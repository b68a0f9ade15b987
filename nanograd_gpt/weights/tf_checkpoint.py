"""TensorFlow's checkpoints ("tensor bundles") read with NumPy alone: PREFIX.index and PREFIX.data-00000-of-00001.

The index is a sorted table of LevelDB's format: blocks of keys and values, each with a checksum, and at the end a
footer that finds the block of blocks.  Each value is a small protocol buffer that says where a tensor lies in the data.
Sources: tensorflow/core/protobuf/tensor_bundle.proto, and LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend.contract import HostArray
from ..errors import InputError
from .crc32c import crc32c, masked
from .safetensors_file import StoredTensor

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
KINDS = {1: "F32", 2: "F64", 3: "I32", 9: "I64", 14: "BF16", 19: "F16"}  # TensorFlow's numbers, safetensors' names
BITS = {kind: int(kind.lstrip("BFI")) for kind in KINDS.values()}

Fields = dict[int, Any]


class Entry(NamedTuple):
    """An entry of the index, about one tensor."""

    type: int  # TensorFlow's number for it
    shape: tuple[int, ...]
    shard: int  # which of the data files
    start: int
    size: int  # in bytes
    checksum: int
    as_contiguous_view: bool


def open_tf_checkpoint(prefix: Path) -> dict[str, StoredTensor]:
    """Name -> array: what is where.  Every checksum has been held against its bytes, of which none are kept.

    Raises InputError for a missing, cut or damaged file.
    """
    index, shards = prefix.with_name(prefix.name + ".index"), {}
    n_shards, entries = _entries(index)
    arrays: dict[str, StoredTensor] = {}
    for name, entry in entries.items():
        path = prefix.with_name(f"{prefix.name}.data-{entry.shard:05d}-of-{n_shards:05d}")
        if path not in shards:
            shards[path] = _mapped(path)
        arrays[name] = _array(name, entry, shards[path], path)
    return arrays


def _mapped(path: Path) -> HostArray:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: it is empty
        raise InputError(f"model: {path} cannot be read ({error}); download it again") from None


def _array(name: str, entry: Entry, shard: HostArray, path: Path) -> StoredTensor:
    kind = KINDS.get(entry.type)
    if kind is None or not entry.as_contiguous_view:
        raise InputError(f"model: {path}: {name} is of TensorFlow's type {entry.type}; numbers in one piece are read")
    end = entry.start + entry.size
    if entry.size != prod(entry.shape) * BITS[kind] // 8 or end > len(shard):
        raise InputError(f"model: {path}: {name} {entry.shape} is cut or damaged; download the file again")
    if masked(crc32c(shard[entry.start : end])) != entry.checksum:
        raise InputError(f"model: {path}: {name} is damaged: its checksum differs; download the file again")
    return StoredTensor(path, entry.start, entry.shape, kind)


# --- the index


def _entries(path: Path) -> tuple[int, dict[str, Entry]]:
    """The number of data files, and each tensor's entry by its name."""
    try:
        values = {key.decode(): value for key, value in _pairs(path.read_bytes())}
        header = _fields(values.pop(""))  # which has no name
        if header.get(2, 0):
            raise ValueError("its numbers begin with their highest byte")
        return int(header.get(1, 1)), {name: _entry(_fields(value)) for name, value in values.items()}
    except OSError as error:
        raise InputError(f"model: {path} cannot be read ({error.strerror}); it belongs to the checkpoint") from None
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise InputError(f"model: {path} is no index of a TensorFlow checkpoint, or damaged ({error})") from None


def _entry(fields: Fields) -> Entry:
    """A BundleEntryProto: a field that is 0 is left out."""
    numbers = [fields.get(number, 0) for number in (1, 3, 4, 5, 6)]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("a number is expected where text is")
    type_, shard, start, size, checksum = numbers
    return Entry(type_, _shape(fields.get(2, b"")), shard, start, size, checksum, as_contiguous_view=7 not in fields)


def _pairs(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = raw[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its last bytes are not a table's")
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)  # where a block of statistics is
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    for _, handle in _block(raw, start, size):
        start, at = _varint(handle, 0)
        yield from _block(raw, start, _varint(handle, at)[0])


def _block(raw: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values.  A key says how much of the one before it begins with."""
    behind = start + size
    if behind + 5 > len(raw):
        raise ValueError(f"a block of {size} bytes at {start} reaches beyond the end")
    checked = np.frombuffer(raw[start : behind + 1], dtype=np.uint8)  # with the byte that tells of compression
    if masked(crc32c(checked)) != struct.unpack_from("<I", raw, behind + 1)[0]:
        raise ValueError(f"the checksum of the block at {start} differs")
    if raw[behind]:
        raise ValueError("its blocks are compressed")
    block = raw[start:behind]
    (n_restarts,) = struct.unpack_from("<I", block, size - 4)
    at, end, key = 0, size - 4 - 4 * n_restarts, b""
    while at < end:
        shared, at = _varint(block, at)
        n_key, at = _varint(block, at)
        n_value, at = _varint(block, at)
        key = key[:shared] + block[at : at + n_key]
        at += n_key
        yield key, block[at : at + n_value]
        at += n_value


# --- protocol buffers


def _shape(message: bytes) -> tuple[int, ...]:
    """A TensorShapeProto's sizes: its field 2, once a dimension, each a message with its size in field 1."""
    return tuple(int(_fields(dim).get(1, 0)) for number, dim in _walk(message) if number == 2)


def _fields(message: bytes) -> Fields:
    return dict(_walk(message))


def _walk(message: bytes) -> Iterator[tuple[int, Any]]:
    """Each field's number and value."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: Any
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
            case 1:
                (value,), at = struct.unpack_from("<Q", message, at), at + 8
            case 2:
                size, at = _varint(message, at)
                value, at = message[at : at + size], at + size
            case 5:
                (value,), at = struct.unpack_from("<I", message, at), at + 4
            case kind:
                raise ValueError(f"a field of kind {kind}")
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
