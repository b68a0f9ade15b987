"""The stored GPT-2s in Hugging Face's layout: modifiable copies, their logits, and refusal messages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt.tiny import one_line
from oracle.closeness import assert_close
from safetensors.numpy import load_file, save_file

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.weights.load import load_weights

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = ["tied", "apart", "deep"]
PRECISIONS = {np.float64: 1e-10, np.float32: 1e-5}

Arrays = dict[str, Any]


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDENS / f"gpt2_{name}", tmp_path / name))


def arrays_changed(directory: Path, change: Callable[[Arrays], object]) -> Path:
    file = directory / "model.safetensors"
    arrays = load_file(file)
    change(arrays)
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, file)
    return directory


def computes_the_golden(model: GPTModel, name: str) -> None:
    with np.load(GOLDENS / f"gpt2_{name}" / "computed.npz", allow_pickle=False) as file:
        golden = dict(file)
    ids, targets = golden["ids"][:, :-1], golden["ids"][:, 1:]
    for dtype, precision in PRECISIONS.items():
        model = model.to(dtype=dtype)
        assert_close(model(ids).data, golden["logits"], precision, "logits")
        assert_close(model.loss(ids, targets).data, golden["loss"], precision, "loss")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_weights(path)
    return one_line(error)
