"""A small model, token ids for it, and the plain formula of its forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import nanograd_gpt as ng
from nanograd_gpt.gpt.model import GPTModel

SIZES: dict[str, Any] = {"vocab_size": 23, "context_length": 6, "emb_dim": 8, "n_heads": 2, "n_layers": 2}
IDS = np.random.default_rng(0).integers(0, 23, (3, 6))
B, T, C, H, V, L = 3, 6, 8, 2, 23, 2


def model_of(drop_rate: float = 0.0, **changed: Any) -> GPTModel:
    return GPTModel({**SIZES, "drop_rate": drop_rate, **changed}, rng=ng.Generator(1))


def normed(x: npt.NDArray[Any], layer: Any) -> npt.NDArray[Any]:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * layer.scale.data + layer.shift.data


def plain_weights(x: npt.NDArray[Any], att: Any) -> npt.NDArray[Any]:
    """x (B, T, C), normed  ->  attention weights (B, H, T, T), one head and one query at a time"""
    D = C // H
    q, k = x @ att.W_query.weight.data.T, x @ att.W_key.weight.data.T
    weights = np.zeros((len(x), H, x.shape[1], x.shape[1]))
    for b in range(len(x)):
        for h in range(H):
            part = slice(h * D, (h + 1) * D)
            for i in range(x.shape[1]):
                scores = np.exp(k[b, : i + 1, part] @ q[b, i, part] / np.sqrt(D))
                weights[b, h, i, : i + 1] = scores / scores.sum()
    return weights
