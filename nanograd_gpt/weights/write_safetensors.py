"""Writing of safetensors files, with checksums: see safetensors_file.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from ..backend.contract import Array, HostArray
from ..backend.select import to_host
from ..errors import InputError
from .safetensors_file import CHECKSUMS, MAX_HEADER, METADATA, header_checksum

KINDS = {"float16": "F16", "float32": "F32", "float64": "F64"}


def write_safetensors(path: Path, tensors: Mapping[str, list[Array]], metadata: Mapping[str, str]) -> None:
    """Write each tensor, the concatenation of its parts along the last axis, one at a time.

    safetensors' own function needs all of them, a second copy of the model in memory.  Equal contents give equal bytes.
    Raises InputError for another dtype than KINDS and for a header that could not be read.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, parts in tensors.items():
        dtype, shape = parts[0].dtype, [*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)]
        if str(dtype) not in KINDS:
            raise InputError(f"{path.name}: {name} has dtype {dtype}; convert it to one of {', '.join(KINDS)} first")
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": KINDS[str(dtype)], "shape": shape, "data_offsets": [start, end]}
    checksums = dict.fromkeys(header, 0)
    reserved = _encoded(header, metadata, checksums)
    if len(reserved) > MAX_HEADER:
        raise InputError(f"{path.name}: its {len(header):,} arrays are more than a file can list; use fewer layers")
    with path.open("wb") as file:
        file.write(reserved)
        for name, parts in tensors.items():
            data = concat_last_axis([to_host(part) for part in parts]).data
            checksums[name] = crc32(data)
            file.write(data)
        file.seek(0)
        file.write(_encoded(header, metadata, checksums))  # of the same length, with the checksums known


def _encoded(header: Mapping[str, Any], metadata: Mapping[str, str], checksums: Mapping[str, int]) -> bytes:
    """Encode the header, its length before it; padded so that the data are aligned to 8 bytes."""
    words = [header_checksum(header, metadata), *(checksums[name] for name in sorted(checksums))]
    sums = " ".join(f"{word:08x}" for word in words)
    text = json.dumps({METADATA: {**metadata, CHECKSUMS: sums}, **header}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def concat_last_axis(parts: list[HostArray]) -> HostArray:
    """n parts (..., C)  ->  (..., n C), contiguous and little-endian"""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return np.ascontiguousarray(whole, dtype=whole.dtype.newbyteorder("<"))
