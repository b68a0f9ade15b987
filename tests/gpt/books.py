"""The book's generation loop without a cache, the reference for cached generation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad


def greedy_text(
    model: GPTModel, idx: npt.NDArray[np.int64], max_new_tokens: int, context_size: int
) -> npt.NDArray[np.int64]:
    """idx (B, T)  ->  (B, T + max_new_tokens)"""
    for _ in range(max_new_tokens):
        with no_grad():
            logits = model(idx[:, -context_size:]).data[:, -1]  # (B, V)
        idx = np.concatenate([idx, logits.argmax(axis=-1)[:, None]], axis=1)
    return idx
