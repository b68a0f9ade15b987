"""GPT-2's files without the package: Hugging Face's model.safetensors and config.json, read and written with NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}  # safetensors' names of dtypes, and NumPy's
SPREAD = np.float32(0.15)  # of random weights: larger than at the start of a training, so that heads differ


def random_arrays(L: int, V: int, T: int, C: int) -> Arrays:
    """Random arrays with GPT-2's names and shapes: L blocks, V tokens, a context of T, C channels."""
    rng = np.random.default_rng(123)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (V, C), "wpe.weight": (T, C)}
    layers = {"attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C), "mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C)}
    norms = ["ln_f"]
    for i in range(L):
        norms += [f"h.{i}.ln_1", f"h.{i}.ln_2"]
        for name, shape in layers.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    shapes |= {f"{norm}.{kind}": (C,) for norm in norms for kind in ("weight", "bias")}
    arrays = {name: rng.standard_normal(shape, dtype=np.float32) * SPREAD for name, shape in shapes.items()}
    for norm in norms:
        arrays[f"{norm}.weight"] += 1
    return arrays


def write(directory: Path, arrays: Mapping[str, npt.NDArray[np.float32]], n_head: int) -> None:
    """Write both files, as Hugging Face's GPT2LMHeadModel.save_pretrained does."""
    header, end = dict[str, Any](), 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.astype("<f4").tobytes())
    (V, C), (T, _) = arrays["wte.weight"].shape, arrays["wpe.weight"].shape
    n_layer = sum(name.endswith("attn.c_attn.bias") for name in arrays)
    sizes = {"vocab_size": V, "n_positions": T, "n_embd": C, "n_head": n_head, "n_layer": n_layer}
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}), encoding="utf-8")


def read(path: Path) -> Arrays:
    """Read the arrays of a safetensors file, those of another dtype than KINDS left out."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, of in json.loads(data[8:begin]).items():
        if name != "__metadata__" and of["dtype"] in KINDS:
            start, stop = (begin + at for at in of["data_offsets"])
            array = np.frombuffer(data[start:stop], KINDS[of["dtype"]]).reshape(of["shape"])
            arrays[name.removeprefix("transformer.")] = array  # a prefix in the files of some versions
    return arrays
