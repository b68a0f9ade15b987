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
from ..files import read_bytes, reason_of, regular_size
from .crc32c import crc32c, masked
from .safetensors_file import StoredTensor

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
MAX_INDEX = 8 << 20  # bytes; GPT-2's largest has 20,000
MAX_SHARDS = 100_000  # their number has five digits in the files' names
MAX_AXES = 8
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
        regular_size(path)
        return np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:  # ValueError: an empty file, or UnreadableError
        raise InputError(f"model: {path} cannot be read ({reason_of(error)}); download it again") from None


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
        pairs = [(key.decode(), value) for key, value in _pairs(read_bytes(path, MAX_INDEX))]
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("a name occurs twice")
        header = _numbers(values.pop(""), {1: 1, 2: 0})  # the header has an empty name
        if header[2]:
            raise ValueError("its data are big-endian")
        if not 1 <= header[1] < MAX_SHARDS:
            raise ValueError(f"it has {header[1]} data files")
        return header[1], {name: _entry(value) for name, value in values.items()}
    except (ValueError, LookupError, struct.error) as error:  # UnreadableError is a ValueError
        raise InputError(f"model: {path} is not an index of a TensorFlow checkpoint, or is damaged ({error})") from None


def _entry(message: bytes) -> Entry:
    """Parse a BundleEntryProto; fields that are 0 are omitted there."""
    numbers, fields = _numbers(message, {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}), _fields(message)
    shape = fields.get(2, b"")
    if not isinstance(shape, bytes):
        raise ValueError("expected a shape, got a number")
    return Entry(numbers[1], _shape(shape), numbers[3], numbers[4], numbers[5], numbers[6], is_whole=7 not in fields)


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
    (n_restarts,) = struct.unpack_from("<I", block, max(0, size - 4))
    at, end, key = 0, size - 4 - 4 * n_restarts, b""
    if end < 0:
        raise ValueError(f"the block at {start} is shorter than it says")
    while at < end:
        shared, at = _varint(block, at)
        n_key, at = _varint(block, at)
        n_value, at = _varint(block, at)
        key = key[:shared] + block[at : at + n_key]
        at += n_key + n_value
        if at > end:
            raise ValueError(f"a name in the block at {start} extends past its end")
        yield key, block[at - n_value : at]


# --- protocol buffers


def _shape(message: bytes) -> tuple[int, ...]:
    """Parse a TensorShapeProto: field 2 once per dimension, each a message with its size in field 1."""
    sizes = [value for number, value in _walk(message) if number == 2]
    if len(sizes) > MAX_AXES or not all(isinstance(size, bytes) for size in sizes):
        raise ValueError(f"a shape has more than {MAX_AXES} axes, or they are not messages")
    return tuple(_numbers(size, {1: 0})[1] for size in sizes)


def _numbers(message: bytes, defaults: dict[int, int]) -> dict[int, int]:
    """Return some fields of a message, which are numbers."""
    fields = _fields(message)
    numbers = {number: fields.get(number, default) for number, default in defaults.items()}
    if not all(isinstance(number, int) for number in numbers.values()):
        raise ValueError("expected a number, got bytes")
    return numbers


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
                if at > len(message):
                    raise ValueError("a field extends past the end of its message")
            case 5:
                (value,), at = struct.unpack_from("<I", message, at), at + 4
            case kind:
                raise ValueError(f"unsupported wire type {kind}")
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Decode a varint of up to 64 bits, 7 per byte, least significant first; returns it and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a number has more than 64 bits")
