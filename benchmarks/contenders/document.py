"""The book's eager code, unchanged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from protocol import Clock, serve
from pytorch import PyTorch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from oracle.book_model import GPTModel, calc_loss_batch, generate_text


class Document(PyTorch):
    def new_model(self, config: dict[str, Any]) -> GPTModel:
        return GPTModel(config)

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=4e-4, weight_decay=0.1)

    def load(self, weights: dict[str, Tensor]) -> None:
        masks = {name: buffer for name, buffer in self.model.named_buffers() if name.endswith("mask")}
        self.model.load_state_dict({**weights, **masks})

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        return calc_loss_batch(ids, targets, self.model)

    def generate(self, ids: list[int], n: int) -> dict[str, Any]:
        self.model.eval()
        clock = Clock()
        text = generate_text(self.model, torch.tensor([ids]), n, self.config["context_length"])
        clock.lap()
        return {"ids": text[0].tolist(), **clock.seconds("all")}


if __name__ == "__main__":
    serve(Document())
