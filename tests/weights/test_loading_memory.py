"""How much memory a process needs to load a model: the model's own, and little more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanograd_gpt.gpt.config import GPTConfig
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
