"""The learning rate at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import TypeAlias

from ..arguments import real_number, whole_number
from ..errors import InputError

Schedule: TypeAlias = Callable[[int], float]  # an update's number, from 0  ->  its learning rate


@dataclass(frozen=True)
class Flat:
    """The same learning rate at every step: the book's training."""

    lr: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", real_number("lr", self.lr))

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class WarmupCosine:
    """From `initial` to `peak` in a line over the warm-up, then to `minimum` in half a cosine wave: book, appendix D.

    Counted in updates; after total_steps the rate stays at its minimum.
    Raises InputError unless 0 <= warmup_steps <= total_steps.
    """

    peak: float
    total_steps: int
    warmup_steps: int = 0
    initial: float = 0.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        for name in ("peak", "initial", "minimum"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        for name in ("total_steps", "warmup_steps"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise InputError(
                f"warmup: {self.warmup_steps} steps do not fit into a training of {self.total_steps} steps"
            )

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.initial + (self.peak - self.initial) * (step + 1) / self.warmup_steps
        decay_steps = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / decay_steps)
        return self.minimum + (self.peak - self.minimum) * 0.5 * (1 + cos(pi * progress))
