"""Code shared by the PyTorch contenders.  Each defines its model, optimizer and loss."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

import torch
from protocol import Training
from safetensors.torch import load_file
from torch import Tensor, nn

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


class PyTorch(Training):
    packages = ("torch",)

    @abstractmethod
    def new_model(self, config: dict[str, Any]) -> nn.Module: ...

    @abstractmethod
    def new_optimizer(self) -> torch.optim.Optimizer: ...

    @abstractmethod
    def load(self, weights: dict[str, Tensor]) -> None:
        """Load weights with the book's names."""

    def prepare(self, config: dict[str, Any], weights: str | None, batches: list[Any]) -> None:
        self.config, self.weights, self.model = config, weights, self.new_model(config)
        self.batches = [(torch.tensor(ids), torch.tensor(targets)) for ids, targets in batches]
        self.start_anew()

    def start_anew(self) -> None:
        if self.weights:
            self.load(load_file(self.weights))
        self.optimizer = self.new_optimizer()

    @torch.no_grad()
    def logits(self, ids: list[int]) -> dict[str, list[float]]:
        self.model.eval()
        return {"logits": self.model(torch.tensor([ids]))[0, -1].tolist()}
