"""The settings that are named where memory ran out fit by the estimate, and the next larger ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from nanograd_gpt.bench.fits import MARGIN, largest_batch, longest_context, most_layers, usable_bytes
from nanograd_gpt.bench.gpu_estimate import gpu_memory_bytes
from nanograd_gpt.gpt.config import GPTConfig

MODEL = GPTConfig(vocab_size=60, context_length=258, emb_dim=16, n_heads=2, n_layers=6)


@pytest.mark.parametrize("fitting", [1, 2, 5, 7])
def test_the_largest_batch_that_fits_is_found(fitting: int) -> None:
    assert largest_batch(MODEL, 8, gpu_memory_bytes(MODEL, fitting)) == fitting
    assert largest_batch(MODEL, 8, gpu_memory_bytes(MODEL, fitting) - 1) == fitting - 1


def test_where_no_batch_fits_there_is_none() -> None:
    assert largest_batch(MODEL, 8, 0) == 0
    assert largest_batch(MODEL, 1, 1 << 40) == 0, "a batch below 1 cannot be tried"


@pytest.mark.parametrize("fitting", [1, 3, 5])
@pytest.mark.parametrize(("name", "find"), [("n_layers", most_layers), ("context_length", longest_context)])
def test_the_largest_size_that_fits_is_found(name: str, find: Callable[[GPTConfig, int], int], fitting: int) -> None:
    size = fitting * getattr(MODEL, name) // 6
    larger: Any = {name: size + 1}
    assert find(MODEL, gpu_memory_bytes(replace(MODEL, **larger), 1) - 1) == size
    assert find(MODEL, 0) == 0


def test_what_is_named_is_smaller_even_if_the_estimate_was_too_low() -> None:
    """A run that ran out of memory with more available than estimated needs less than its estimate."""
    estimate = gpu_memory_bytes(MODEL, 8)
    assert usable_bytes(MODEL, 8, 10 * estimate) == int(MARGIN * estimate)
    assert usable_bytes(MODEL, 8, estimate // 2) == int(MARGIN * (estimate // 2))
