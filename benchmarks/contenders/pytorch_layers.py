"""Each layer of the best eager PyTorch alone: forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from best import Block
from protocol import Clock, Contender, halves, serve
from pytorch import PyTorch  # which sets the number of threads
from torch import Tensor, nn
from torch.nn import functional as F


class PyTorchLayers(Contender):
    packages = PyTorch.packages

    def prepare(self, config: dict[str, Any], batch_size: int, length: int) -> None:
        torch.manual_seed(1)
        C, V = config["emb_dim"], config["vocab_size"]
        self.ids = torch.randint(0, V, (batch_size, length))
        block = Block(config)
        self.makers: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
            "Embedding": same(nn.Embedding(V, C)),
            "LayerNorm": same(nn.LayerNorm(C)),
            "MultiHeadAttention": (block, lambda x: block.project(block.attention(block.qkv(x)))),
            "FeedForward": (block, lambda x: block.narrow(F.gelu(block.widen(x), approximate="tanh"))),
            "Linear": same(nn.Linear(C, 4 * C)),
            "Dropout": same(nn.Dropout(config["drop_rate"])),
            "head and loss": self._head(C, V),
        }
        self.width = C

    def _head(self, C: int, V: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        head = nn.Linear(C, V, bias=False)
        return head, lambda x: F.cross_entropy(head(x).flatten(0, 1), self.ids.flatten())

    def choose(self, layer: str) -> None:
        """Choose a layer and create its input."""
        self.module, self.layer = self.makers[layer]
        of_ids = layer == "Embedding"
        self.x = self.ids if of_ids else torch.randn(*self.ids.shape, self.width, requires_grad=True)
        self.dy = torch.ones_like(self.layer(self.x))

    def steps(self, n: int) -> dict[str, float]:
        clock = Clock()
        for _ in range(n):
            self.module.zero_grad()
            self.x.grad = None
            y = self.layer(self.x)
            clock.lap()
            y.backward(self.dy)
            clock.lap()
        return halves(clock, n)


def same(module: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    return module, module


if __name__ == "__main__":
    serve(PyTorchLayers())
