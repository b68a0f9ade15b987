"""Reader for TensorFlow's checkpoints ("tensor bundles") in NumPy: PREFIX.index and PREFIX.data-00000-of-00001.

The index is a sorted table in LevelDB's format: blocks of keys and values, each with a checksum, and at the end a
footer that points to the index block.  Each value is a small protocol buffer with a tensor's location in the data.
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
    """Index entry of one tensor."""

    type: int  # TensorFlow's DataType
    shape: tuple[int, ...]
    shard: int  # index of its data file
    start: int
    size: int  # in bytes
    checksum: int
    is_whole: bool  # not stored in slices


def open_tf_checkpoint(prefix: Path) -> dict[str, StoredTensor]:
    """Open a checkpoint; returns its arrays by name, with all checksums verified and no data kept in memory.

    Raises InputError for a missing, truncated or damaged file.
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
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise InputError(f"model: {path} cannot be read ({error}); download it again") from None


def _array(name: str, entry: Entry, shard: HostArray, path: Path) -> StoredTensor:
    kind = KINDS.get(entry.type)
    if kind is None or not entry.is_whole:
        raise InputError(
            f"model: {path}: {name} has TensorFlow's type {entry.type}, or is sliced; expected a whole array of floats"
        )
    end = entry.start + entry.size
    if entry.size != prod(entry.shape) * BITS[kind] // 8 or end > len(shard):
        raise InputError(f"model: {path}: {name} {entry.shape} is truncated or damaged; download the file again")
    if masked(crc32c(shard[entry.start : end])) != entry.checksum:
        raise InputError(f"model: {path}: {name} is damaged: its checksum differs; download the file again")
    return StoredTensor(path, entry.start, entry.shape, kind)


# --- the index


def _entries(path: Path) -> tuple[int, dict[str, Entry]]:
    """Return the number of data files, and each tensor's entry by name."""
    try:
        values = {key.decode(): value for key, value in _pairs(path.read_bytes())}
        header = _fields(values.pop(""))  # the header has an empty name
        if header.get(2, 0):
            raise ValueError("its data are big-endian")
        return int(header.get(1, 1)), {name: _entry(_fields(value)) for name, value in values.items()}
    except OSError as error:
        raise InputError(f"model: {path} cannot be read ({error.strerror}); it belongs to the checkpoint") from None
    except (ValueError, TypeError, LookupError, struct.error) as error:
        raise InputError(f"model: {path} is not an index of a TensorFlow checkpoint, or is damaged ({error})") from None


def _entry(fields: Fields) -> Entry:
    """Parse a BundleEntryProto; fields that are 0 are omitted there."""
    numbers = [fields.get(number, 0) for number in (1, 3, 4, 5, 6)]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("expected a number, got bytes")
    type_, shard, start, size, checksum = numbers
    return Entry(type_, _shape(fields.get(2, b"")), shard, start, size, checksum, is_whole=7 not in fields)


def _pairs(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = raw[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("its footer has no table magic number")
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)  # skip the handle of the metaindex block
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    for _, handle in _block(raw, start, size):
        start, at = _varint(handle, 0)
        yield from _block(raw, start, _varint(handle, at)[0])


def _block(raw: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's keys and values.  Keys are prefix-compressed relative to the previous one."""
    stop = start + size
    if stop + 5 > len(raw):
        raise ValueError(f"a block of {size} bytes at {start} extends past the end of the file")
    checked = np.frombuffer(raw[start : stop + 1], dtype=np.uint8)  # includes the compression byte
    if masked(crc32c(checked)) != struct.unpack_from("<I", raw, stop + 1)[0]:
        raise ValueError(f"the checksum of the block at {start} differs")
    if raw[stop]:
        raise ValueError("its blocks are compressed")
    block = raw[start:stop]
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
    """Parse a TensorShapeProto: field 2 once per dimension, each a message with its size in field 1."""
    return tuple(int(_fields(dim).get(1, 0)) for number, dim in _walk(message) if number == 2)


def _fields(message: bytes) -> Fields:
    return dict(_walk(message))


def _walk(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield each field's number and value."""
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
                raise ValueError(f"unsupported wire type {kind}")
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Decode a varint, 7 bits per byte, least significant first; returns it and the offset after it."""
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
