"""The public names: PyTorch's for what PyTorch names, and enough to build a network or an operation of one's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanograd_gpt as ng
from nanograd_gpt import nn
from nanograd_gpt.gradcheck import GradientError, check_gradients


class MLP(nn.Module):
    def __init__(self) -> None:
        self.hidden = nn.Linear(2, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x: ng.Tensor) -> ng.Tensor:
        y: ng.Tensor = self.out(self.hidden(x).tanh())
        return y


class Sine(ng.Function):
    """sin(x), an operation of one's own"""

    def forward(self, x: Any) -> Any:
        self.saved = x
        return np.sin(x)

    def backward(self, dy: Any) -> Any:
        return (dy * np.cos(self.saved),)


def test_every_public_name_is_there() -> None:
    assert sorted(ng.__all__) == sorted(set(ng.__all__))
    for name in (*ng.__all__, "__version__"):
        assert getattr(ng, name) is not None


def test_nn_has_pytorchs_names() -> None:
    for name in ("Linear", "Embedding", "LayerNorm", "GELU", "Dropout", "Sequential", "Module", "Parameter"):
        assert getattr(nn, name) is getattr(ng, name)
    assert nn.functional is ng.functional


def test_a_network_of_ones_own_learns_xor() -> None:
    x = ng.Tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32))
    y = np.array([[0], [1], [1], [0]], dtype=np.float32)
    model = MLP()
    optimizer = ng.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(400):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with ng.no_grad():
        assert np.abs(model(x).numpy() - y).max() < 0.1


def test_an_operation_of_ones_own_has_its_gradient_checked() -> None:
    assert check_gradients(lambda x: ng.apply(Sine, x), [np.linspace(-2, 2, 5)]) < 1e-14
    wrong = type("Wrong", (Sine,), {"backward": lambda self, dy: (dy * np.sin(self.saved),)})
    with pytest.raises(GradientError):
        check_gradients(lambda x: ng.apply(wrong, x), [np.linspace(-2, 2, 5)])


def test_layers_without_a_stream_begin_differently_and_with_one_alike() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    assert not np.array_equal(first.weight.data, second.weight.data)
    alike = [nn.Linear(3, 3, rng=ng.Generator(1)).weight.data for _ in range(2)]
    np.testing.assert_array_equal(*alike)


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nanograd_gpt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("nanograd-gpt ")


def test_the_example_for_contributors_runs() -> None:
    guide = (Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "CONTRIBUTING.md", "exec"), names)
    np.testing.assert_allclose(names["x"].grad, np.cos([0.5, 1.0]))


def test_the_example_for_who_comes_from_pytorch_learns() -> None:
    document = (Path(ng.__path__[0]) / "ops" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "ops/README.md", "exec"), names)
    assert names["accuracy"] > 0.9
