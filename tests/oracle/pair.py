"""Ours and the document's model in PyTorch, a pair of any of these shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import oracle.book_model as book
import torch

from nanograd_gpt.gpt.model import GPTModel

Arrays = dict[str, npt.NDArray[Any]]

# vocabulary, context, width, heads, layers, bias of Q, K and V; then B and T
SHAPES = {
    "plain": (50, 8, 16, 2, 2, False, 3, 8),
    "qkv_bias": (50, 8, 16, 4, 2, True, 3, 8),
    "one row": (31, 8, 24, 3, 1, True, 1, 8),
    "shorter than the context": (31, 16, 12, 3, 2, False, 3, 5),
    "shorter, with bias": (31, 16, 12, 2, 3, True, 1, 7),
    "one token": (11, 4, 8, 2, 1, False, 3, 1),
    "one head, width 1 each": (11, 6, 4, 4, 1, True, 2, 6),
}


class Pair:
    """Ours and the document's model, with the same weights, and a batch for them."""

    def __init__(self, shape: str, dtype: Any = np.float64, gain: float = 1.0) -> None:
        V, context, C, H, L, qkv_bias, B, T = SHAPES[shape]
        self.cfg = {
            "vocab_size": V,
            "context_length": context,
            "emb_dim": C,
            "n_heads": H,
            "n_layers": L,
            "drop_rate": 0.0,
            "qkv_bias": qkv_bias,
        }
        torch.manual_seed(5)
        self.theirs = book.GPTModel(self.cfg).to(torch.float64 if dtype == np.float64 else torch.float32)
        with torch.no_grad():
            for p in self.theirs.parameters():  # away from 0 and 1: a shift or a scale that is lost must show
                p.add_(torch.randn_like(p), alpha=0.2).mul_(gain)
        self.ours = GPTModel(self.cfg).to(dtype=dtype)
        self.ours.load_state_dict({name: t.numpy() for name, t in self.theirs.state_dict().items()})
        rng = np.random.default_rng(6)
        self.ids, self.targets = rng.integers(0, V, (2, B, T))
        self.batches = rng.integers(0, V, (3, 2, B, T))

    def their_gradients(self) -> Arrays:
        return {name: p.grad.numpy() for name, p in self.theirs.named_parameters()}

    def our_gradients(self) -> Arrays:
        return {name: p.grad for name, p in self.ours.named_parameters() if p.grad is not None}

    def their_weights(self) -> Arrays:
        return {name: p.detach().numpy() for name, p in self.theirs.named_parameters()}
