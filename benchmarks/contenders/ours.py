"""nanograd_gpt, by its public names."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from protocol import Clock, Training, serve
from safetensors.numpy import load_file

from nanograd_gpt import AdamW, GPTModel, Tensor, generate_text, keep_freed_memory, no_grad

keep_freed_memory()  # as the training loop does


class Ours(Training):
    packages = ("numpy",)

    def prepare(self, config: dict[str, Any], weights: str | None, batches: list[Any]) -> None:
        self.weights, self.model = weights, GPTModel(config)
        self.batches = [(np.array(ids), np.array(targets)) for ids, targets in batches]
        self.start_anew()

    def start_anew(self) -> None:
        if self.weights:
            self.model.load_state_dict(load_file(self.weights))
        self.__dict__.pop("optimizer", None)

    @cached_property
    def optimizer(self) -> AdamW:
        """Created on first use: generation and evaluation need neither it nor its memory."""
        return AdamW(self.model.parameters(), lr=4e-4, weight_decay=0.1)

    def loss(self, ids: Any, targets: Any) -> Tensor:
        return self.model.loss(ids, targets)

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        with no_grad():
            return {"loss": self.model.loss(*self.batches[0]).item()}

    def logits(self, ids: list[int]) -> dict[str, list[float]]:
        self.model.eval()
        with no_grad():
            return {"logits": self.model(np.array([ids])).data[0, -1].tolist()}

    def generate(self, ids: list[int], n: int, rows: int = 1) -> dict[str, Any]:
        self.model.eval()
        clock = Clock()
        text = generate_text(self.model, np.array([ids] * rows), n, self.model.config.context_length)
        clock.lap()
        return {"ids": text[0].tolist(), **clock.seconds("all")}


if __name__ == "__main__":
    serve(Ours())
