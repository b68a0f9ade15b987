"""A model to files that Hugging Face's transformers load."""

from __future__ import annotations

import json
import shutil
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.contract import Array, HostArray
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..files import to_disk
from .config_files import to_config_json
from .model import GPTModel
from .names import PREFIX, THEIRS, gpt2_parts

KINDS = {"float16": "F16", "float32": "F32", "float64": "F64"}


def save_pretrained(directory: Path | str, model: GPTModel) -> Path:
    """Write a directory with model.safetensors and config.json, whole or not at all.  Returns its path.

    Where the model has no qkv_bias, GPT-2's are zeros: the same function.  Raises InputError if the directory exists
    or the numbers are of no kind for a file, and RunError if they cannot be written.
    """
    directory = Path(directory)
    if directory.exists():
        raise InputError(f"convert: {directory} exists already; give a new directory")
    tensors = _in_their_layout(model)
    work = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _write_safetensors(work / "model.safetensors", tensors)
        text = json.dumps(to_config_json(model.config), indent=2)
        (work / "config.json").write_text(text, encoding="utf-8")
        for file in work.iterdir():
            to_disk(file)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise RunError(f"convert: {directory} could not be written ({error.strerror}); is the disk full?") from None
    work.rename(directory)
    to_disk(directory.parent)
    return directory


def _in_their_layout(model: GPTModel) -> dict[str, list[Array]]:
    """Each of their tensors as the parts of ours that stand side by side in it: views, no copies yet."""
    state = model.state_dict()
    dtype = state["tok_emb.weight"].dtype
    if str(dtype) not in KINDS:
        raise InputError(f"convert: the model is of {dtype}; move it to one of {', '.join(KINDS)} first")
    tensors: dict[str, list[Array]] = {}
    for part in gpt2_parts(model.config):
        ours = state.get(part.ours)
        if ours is None:  # a bias that the model does without
            ours = np.zeros(model.config.emb_dim, dtype=dtype)
        name = part.theirs if part.theirs == THEIRS.head else PREFIX + part.theirs
        tensors.setdefault(name, []).append(ours.T if part.transposed else ours)
    return tensors


def _write_safetensors(path: Path, tensors: dict[str, list[Array]]) -> None:
    """One tensor after the other: safetensors' own function takes them all at once, a second model in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, parts in tensors.items():
        dtype, shape = parts[0].dtype, (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": KINDS[str(dtype)], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers begin where a number of 8 bytes may
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for parts in tensors.values():
            file.write(_side_by_side([to_host(part) for part in parts]).data)


def _side_by_side(parts: list[HostArray]) -> HostArray:
    """Parts (..., C)  ->  (..., n C), in one piece, lowest byte first."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return np.ascontiguousarray(whole, dtype=whole.dtype.newbyteorder("<"))
