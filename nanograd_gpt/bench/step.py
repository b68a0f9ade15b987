"""Timings of a train step by phase, and of generation by token."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np

from ..backend.contract import Ints
from ..backend.cpu.allocator import keep_freed_memory
from ..backend.select import synchronize
from ..generation.generate import new_tokens
from ..generation.sampling import Sampling
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..optim import AdamW
from ..rng import Generator

T = TypeVar("T")

PHASES = ["forward", "backward", "optimizer"]


def random_batch(config: GPTConfig, batch_size: int, length: int, seed: int = 0) -> tuple[Ints, Ints]:
    """Draw token ids and their targets, one token later, each (B, T)."""
    numbers = Generator(seed, stream=9).uniform((batch_size, length + 1)) * config.vocab_size
    ids = np.minimum(numbers.astype(np.int64), config.vocab_size - 1)  # float32 may round up to V
    return ids[:, :-1], ids[:, 1:]


class TrainStep:
    """A model, its optimizer with the book's settings, and a batch, for repeated updates."""

    def __init__(self, model: GPTModel, batch: tuple[Ints, Ints]) -> None:
        keep_freed_memory()
        self.model, self.device = model, model.device
        self.optimizer = AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)
        self.ids, self.targets = batch

    def run(self) -> float:
        """Take one update; returns the loss before it."""
        loss = self.model.loss(self.ids, self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.item())

    def timed(self) -> dict[str, float]:
        """Take one update; returns the seconds of each phase, "total", and "cpu", the CPU time of all threads."""
        cpu, times = process_time(), [self._now()]
        loss = self.model.loss(self.ids, self.targets)
        times.append(self._now())
        loss.backward()
        times.append(self._now())
        self.optimizer.step()
        self.optimizer.zero_grad()
        times.append(self._now())
        phases = zip(PHASES, times[1:], times[:-1], strict=True)
        return {
            **{name: end - start for name, end, start in phases},
            "total": times[-1] - times[0],
            "cpu": process_time() - cpu,
        }

    def _now(self) -> float:
        synchronize(self.device)
        return perf_counter()


def token_times(model: GPTModel, prompt: Ints, n_new: int) -> list[float]:
    """Seconds to each of n_new greedy tokens after prompt (T,), in one run; the first includes reading the prompt."""
    tokens = new_tokens(model, [prompt], n_new, model.config.context_length, Sampling(), None, ended=())
    times = [perf_counter(), *(perf_counter() for _ in tokens)]  # a token is on the host when it is yielded
    return [end - start for start, end in pairwise(times)]


def repeated(measure: Callable[[], T], seconds: float, at_least: int = 3, at_most: int = 50) -> list[T]:
    """Repeat a measurement for this many seconds, at least and at most so often; returns its results."""
    results: list[T] = []
    start = perf_counter()
    while len(results) < at_least or (len(results) < at_most and perf_counter() - start < seconds):
        results.append(measure())
    return results
