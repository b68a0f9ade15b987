"""Settings that fit where a training ran out of GPU memory, by the estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..gpt.config import GPTConfig
from .gpu_estimate import gpu_memory_bytes

MARGIN = 0.9  # the estimate is within 10%


def usable_bytes(model: GPTConfig, batch_size: int, available: int) -> int:
    """Bytes of the estimate that fit into `available`, where a training of this size did not.

    An estimate that is below what was available was too low, and is taken for what is.
    """
    return int(MARGIN * min(available, gpu_memory_bytes(model, batch_size)))


def largest_batch(model: GPTConfig, below: int, bytes_: int) -> int:
    """The largest batch size < below whose estimate is within bytes_; 0 if there is none."""
    return _largest(below, lambda B: gpu_memory_bytes(model, B) <= bytes_)


def most_layers(model: GPTConfig, bytes_: int) -> int:
    """The largest number of layers, below the model's, that fits with a batch of 1; 0 if there is none."""
    return _largest(model.n_layers, lambda L: gpu_memory_bytes(replace(model, n_layers=L), 1) <= bytes_)


def longest_context(model: GPTConfig, bytes_: int) -> int:
    """The longest context, below the model's, that fits with a batch of 1; 0 if there is none."""
    return _largest(model.context_length, lambda T: gpu_memory_bytes(replace(model, context_length=T), 1) <= bytes_)


def _largest(below: int, fits: Callable[[int], bool]) -> int:
    """The largest number < below that fits, if all smaller ones do; 0 if none does."""
    low = 0  # fits, or is 0
    while below - low > 1:
        middle = (low + below) // 2
        low, below = (middle, below) if fits(middle) else (low, middle)
    return low
