"""Small parameters with gradients, for the optimizer tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.optim import AdamW

SHAPES = [(2, 3), (4,), ()]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 4e-4, "weight_decay": 0.1},
    {"lr": 0.05, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.3},
    {"lr": 0.1, "betas": (0.0, 0.0), "weight_decay": 0.0},
]

Gradients = list[npt.NDArray[Any] | None]


def parameters(dtype: Any = np.float64, seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)
    return [Parameter(np.asarray(rng.standard_normal(shape), dtype=dtype)) for shape in SHAPES]


def gradients(seed: int, dtype: Any = np.float64) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in SHAPES]


def give(ps: list[Parameter], gs: Gradients) -> None:
    for p, g in zip(ps, gs, strict=True):
        p.zero_grad()
        if g is not None:
            (p * g).sum().backward()


def train(optimizer: AdamW, seeds: range, dtype: Any = np.float64) -> None:
    for seed in seeds:
        give(optimizer.parameters, list(gradients(seed, dtype)))
        optimizer.step()
