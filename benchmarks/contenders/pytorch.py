"""Code shared by the PyTorch contenders.  Each defines its model, optimizer and loss."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

import torch
from protocol import PHASES, Clock, Training
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

    @abstractmethod
    def loss(self, ids: Tensor, targets: Tensor) -> Tensor: ...

    def prepare(self, config: dict[str, Any], weights: str | None, batches: list[Any]) -> None:
        self.config, self.weights, self.model = config, weights, self.new_model(config)
        self.batches = [(torch.tensor(ids), torch.tensor(targets)) for ids, targets in batches]
        self.start_anew()

    def start_anew(self) -> None:
        if self.weights:
            self.load(load_file(self.weights))
        self.optimizer = self.new_optimizer()

    def check(self) -> dict[str, list[float]]:
        ids, targets = self.batches[0]
        self.model.eval()
        before = self.loss(ids, targets)
        before.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        after = self.loss(ids, targets)
        self.start_anew()
        self.model.train()
        return {"losses": [before.item(), after.item()]}

    def step(self, ids: Tensor, targets: Tensor) -> dict[str, float]:
        clock = Clock()
        loss = self.loss(ids, targets)
        clock.lap()
        loss.backward()
        clock.lap()
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock.lap()
        return clock.seconds(*PHASES)

    @torch.no_grad()
    def logits(self, ids: list[int]) -> dict[str, list[float]]:
        self.model.eval()
        return {"logits": self.model(torch.tensor([ids]))[0, -1].tolist()}
