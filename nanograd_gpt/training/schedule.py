"""Learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import TypeAlias

from ..arguments import real_number, whole_number
from ..errors import InputError

Schedule: TypeAlias = Callable[[int], float]  # update number, from 0  ->  learning rate


@dataclass(frozen=True)
class Flat:
    """Constant learning rate, as in the book's chapter 5."""

    lr: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", real_number("lr", self.lr))

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up from `initial` to `peak`, then cosine decay to `minimum`.

    Update k of the warm-up, from 0, has initial + (peak - initial) * (k + 1) / warmup_steps.  This is one update ahead
    of the book's appendix D and of Hugging Face's get_cosine_schedule_with_warmup, which start at `initial` itself: an
    initial rate of 0 wastes no update here, and the peak is used twice.  AppendixD implements their rule.

    After total_steps updates the rate stays at `minimum`, as after nanoGPT's lr_decay_iters.
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
                f"warmup: {self.warmup_steps} is not allowed; choose 0 .. {self.total_steps}, the steps of the training"
            )

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self._warming_up(step)
        if step >= self.total_steps:
            return self.minimum
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.minimum + (self.peak - self.minimum) * 0.5 * (1 + cos(pi * progress))

    def _warming_up(self, step: int) -> float:
        return self.initial + (self.peak - self.initial) * (step + 1) / self.warmup_steps


@dataclass(frozen=True)
class AppendixD(WarmupCosine):
    """Schedule of the book's appendix D: the warm-up starts at `initial` itself, and clipping starts after it.

    Update k of the warm-up has initial + k * (peak - initial) / warmup_steps.  With initial and minimum 0 it equals
    Hugging Face's get_cosine_schedule_with_warmup.
    """

    @property
    def first_clipped(self) -> int:
        """First update whose gradients are clipped.

        The book's condition is `global_step > warmup_steps`, which excludes the update at the peak; later editions of
        its notebook have >=.
        """
        return self.warmup_steps + 1

    def _warming_up(self, step: int) -> float:
        return self.initial + step * ((self.peak - self.initial) / self.warmup_steps)
