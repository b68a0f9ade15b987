"""Peak memory of loading a model: little more than the model."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import pytest

from nanograd_gpt.gpt.config import PRESETS, GPTConfig, parameter_shapes
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.checkpoint import save_model
from nanograd_gpt.weights.save import save_pretrained

from .tf_files import write_openai

CONFIG = GPTConfig(8000, 256, 512, 8, 4, 0.0, qkv_bias=True, tied_head=True)  # 67 MB

# VmHWM is this process's own peak; ru_maxrss can be that of the process which started it
LOADING = """
import sys
from pathlib import Path
from nanograd_gpt import load_pretrained

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

before = kilobytes("VmRSS")
model = load_pretrained(sys.argv[1])
print((kilobytes("VmHWM") - before) * 1024, 4 * model.n_parameters)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak from /proc")
@pytest.mark.parametrize("layout", ["transformers", "ours", "openai"])
def test_loading_needs_little_more_than_the_model(tmp_path: Path, layout: str) -> None:
    model, path = GPTModel(CONFIG), tmp_path / "model"
    if layout == "transformers":
        save_pretrained(path, model)
    elif layout == "ours":
        path = save_model(tmp_path / "model.safetensors", model)
    else:
        write_openai(path, model)
    done = subprocess.run([sys.executable, "-c", LOADING, path], capture_output=True, text=True, check=True)
    peak, size = map(int, done.stdout.split())
    assert size > 60e6
    assert size < peak <= 1.2 * size


OPENING = """
import sys
from pathlib import Path
from nanograd_gpt.cli import main

code = main(["info", *sys.argv[1:]])
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM:"))
print("peak", int(peak.split()[1]) * 1024)
sys.exit(code)
"""


def a_large_file_of_zeros(path: Path, config: GPTConfig) -> Path:
    """A sparse model file, which takes no space on disk."""
    header: dict[str, Any] = {"__metadata__": {"config": json.dumps(config.to_dict())}}
    end = 0
    for name, shape in parameter_shapes(config).items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak from /proc")
@pytest.mark.parametrize("source", ["a preset", "a file"])
def test_what_a_large_model_is_can_be_told_without_making_one(tmp_path: Path, source: str) -> None:
    file = ["--preset", "gpt2-1558m"]
    if source == "a file":
        file = [str(a_large_file_of_zeros(tmp_path / "model.safetensors", PRESETS["gpt2-355m"]))]
    done = subprocess.run([sys.executable, "-c", OPENING, *file], capture_output=True, text=True, check=True)
    assert ("1,636,563,200" if source == "a preset" else "405,426,176") in done.stdout
    assert int(done.stdout.split()[-1]) < 150e6
