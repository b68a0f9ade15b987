"""Each layer of nanograd_gpt alone: forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from protocol import Clock, Contender, halves, serve

from nanograd_gpt import (
    AdamW,
    Dropout,
    Embedding,
    FeedForward,
    Generator,
    GPTConfig,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    Tensor,
    keep_freed_memory,
)
from nanograd_gpt import functional as F

keep_freed_memory()  # as the training loop does


class OurLayers(Contender):
    packages = ("numpy",)

    def prepare(self, config: dict[str, Any], batch_size: int, length: int) -> None:
        cfg = GPTConfig.of(config)
        self.rng, self.numbers = Generator(1), np.random.default_rng(1)
        self.ids = self.numbers.integers(0, cfg.vocab_size, (batch_size, length))
        self.makers: dict[str, Callable[[], tuple[Any, Any]]] = {
            "Embedding": lambda: (Embedding(cfg.vocab_size, cfg.emb_dim, rng=self.rng), self.ids),
            "LayerNorm": lambda: (LayerNorm(cfg.emb_dim), self._x(cfg.emb_dim)),
            "MultiHeadAttention": lambda: (self._attention(cfg), self._x(cfg.emb_dim)),
            "FeedForward": lambda: (FeedForward(cfg, rng=self.rng), self._x(cfg.emb_dim)),
            "Linear": lambda: (Linear(cfg.emb_dim, 4 * cfg.emb_dim, rng=self.rng), self._x(cfg.emb_dim)),
            "Dropout": lambda: (Dropout(cfg.drop_rate, rng=self.rng), self._x(cfg.emb_dim)),
            "head and loss": lambda: (self._head(cfg), self._x(cfg.emb_dim)),
        }

    def _x(self, width: int) -> Tensor:
        x = self.numbers.standard_normal((*self.ids.shape, width), dtype=np.float32)
        return Tensor(x, requires_grad=True)

    def _attention(self, cfg: GPTConfig) -> MultiHeadAttention:
        C = cfg.emb_dim
        return MultiHeadAttention(C, C, cfg.context_length, cfg.drop_rate, cfg.n_heads, rng=self.rng)

    def _head(self, cfg: GPTConfig) -> Any:
        self.weight = Linear(cfg.emb_dim, cfg.vocab_size, bias=False, rng=self.rng).weight
        return lambda x: F.linear_cross_entropy(x.reshape(-1, cfg.emb_dim), self.weight, self.ids.reshape(-1))

    def choose(self, layer: str) -> None:
        """Create a layer and its input, dropping the previous ones."""
        self.layer, self.x = self.makers[layer]()
        y = self.layer(self.x)
        self.dy = np.ones_like(y.data)
        parameters = self.layer.parameters() if hasattr(self.layer, "parameters") else [self.weight]
        self.flat = AdamW(parameters) if parameters else None  # gradients go to a flat array, as in training

    def steps(self, n: int) -> dict[str, float]:
        clock = Clock()
        for _ in range(n):
            if self.flat is not None:
                self.flat.zero_grad()
            if isinstance(self.x, Tensor):
                self.x.zero_grad()
            y = self.layer(self.x)
            clock.lap()
            y.backward(self.dy)
            clock.lap()
        return halves(clock, n)


if __name__ == "__main__":
    serve(OurLayers())
