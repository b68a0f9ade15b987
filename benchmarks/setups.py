"""The setups of the comparisons: sizes of models and batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nanograd_gpt import GPT_CONFIG_124M
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import PRESETS, GPTConfig

BATCHES = 8  # used in turn: a model quickly overfits a single one


@dataclass(frozen=True)
class Setup:
    """A model's sizes and a batch of B windows of T tokens."""

    config: GPTConfig
    batch_size: int
    length: int

    def batches(self) -> list[Any]:
        """Ids and targets, as JSON can hold them."""
        return [
            [a.tolist() for a in random_batch(self.config, self.batch_size, self.length, seed)]
            for seed in range(BATCHES)
        ]

    def facts(self) -> dict[str, Any]:
        return {**self.config.to_dict(), "batch_size": self.batch_size, "length": self.length}

    def with_drop_rate(self, rate: float) -> Setup:
        return replace(self, config=replace(self.config, drop_rate=rate))


LARGE = Setup(GPTConfig(**GPT_CONFIG_124M), 2, 256)
SMALL = Setup(GPTConfig(512, 64, 128, 4, 4, 0.1), 8, 64)
LARGER = Setup(PRESETS["gpt2-355m"], 1, 256)
QUICK = Setup(GPTConfig(1000, 64, 64, 4, 2, 0.1), 2, 64)  # in place of a large one, to check that everything works
