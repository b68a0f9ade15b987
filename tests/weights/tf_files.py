"""Writer for TensorFlow's checkpoints, valid and invalid, after tensor_bundle.proto and table_format.md."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.weights.crc32c import crc32c, masked
from nanograd_gpt.weights.gpt2_names import gpt2_mappings

TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
FOOTER, MAGIC = 48, 0xDB4775248B80FB57


def write_tf_checkpoint(
    prefix: Path, arrays: Mapping[str, npt.NDArray[Any]], types: Mapping[str, int] | None = None
) -> None:
    """PREFIX.index and PREFIX.data-00000-of-00001; `types` overrides TensorFlow's type numbers."""
    data, pairs = b"", {"": _field(1, 1)}  # one shard
    for name, array in sorted(arrays.items()):
        raw = np.ascontiguousarray(array).tobytes()
        dims = b"".join(_field(2, _field(1, n)) for n in array.shape)
        type_ = (types or {}).get(name, TYPES.get(str(array.dtype), 0))
        place = _field(4, len(data)) + _field(5, len(raw))
        pairs[name] = _field(1, type_) + _field(2, dims) + place + _fixed(6, _checksum(raw))
        data += raw
    write_index(prefix, pairs)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)


def write_index(prefix: Path, pairs: Mapping[str, bytes]) -> None:
    """Write only PREFIX.index, with any values and valid checksums."""
    table, handles = b"", []
    for block in (_block(pairs), _block({})):  # the second, of statistics, is empty
        handles.append(_varint(len(table)) + _varint(len(block)))
        table += _sealed(block)
    index = _block({max(pairs) + "x": handles[0]})
    handles.append(_varint(len(table)) + _varint(len(index)))
    footer = (handles[1] + handles[2]).ljust(FOOTER - 8, b"\0") + struct.pack("<Q", MAGIC)
    prefix.with_name(prefix.name + ".index").write_bytes(table + _sealed(index) + footer)


def write_openai(directory: Path, model: GPTModel) -> None:
    """Convert a model with qkv_bias and a tied head to OpenAI's layout."""
    config, state, arrays = model.config, model.state_dict(), {}
    for part in gpt2_mappings(config):
        ours = state[part.name].T if part.transposed else state[part.name]
        arrays.setdefault(openai_name(part.gpt2_name), []).append(ours)
    directory.mkdir()
    joined = {name: np.concatenate(parts, axis=-1) for name, parts in arrays.items()}
    write_tf_checkpoint(directory / "model.ckpt", {n: a[None] if n.endswith("/w") else a for n, a in joined.items()})
    sizes = config.vocab_size, config.context_length, config.emb_dim, config.n_heads, config.n_layers
    hparams = dict(zip(("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"), sizes, strict=True))
    (directory / "hparams.json").write_text(json.dumps(hparams), encoding="utf-8")


def openai_name(name: str) -> str:
    """Translate h.0.ln_1.weight to model/h0/ln_1/g."""
    if name in ("wte.weight", "wpe.weight"):
        return f"model/{name.removesuffix('.weight')}"
    *path, last = name.split(".")
    letter = {"weight": "g" if path[-1].startswith("ln_") else "w", "bias": "b"}[last]
    if path[0] == "h":
        path = [f"h{path[1]}", *path[2:]]
    return "/".join(["model", *path, letter])


# --- the table


def _block(pairs: Mapping[str, bytes]) -> bytes:
    """A block of uncompressed keys, with a single restart point."""
    entries = (
        _varint(0) + _varint(len(key.encode())) + _varint(len(value)) + key.encode() + value
        for key, value in pairs.items()
    )
    return b"".join(entries) + struct.pack("<II", 0, 1)


def _sealed(block: bytes) -> bytes:
    """A block with its compression byte (none) and the checksum of both."""
    return block + b"\0" + struct.pack("<I", _checksum(block + b"\0"))


def _checksum(raw: bytes) -> int:
    return masked(crc32c(np.frombuffer(raw, dtype=np.uint8)))


# --- protocol buffers


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _fixed(number: int, value: int) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<I", value)


def _varint(value: int) -> bytes:
    raw = b""
    while value > 127:
        raw += bytes([value & 127 | 128])
        value >>= 7
    return raw + bytes([value])
