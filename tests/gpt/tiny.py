"""A tiny configuration, token ids for it, and what an error says in one line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig

TINY = GPTConfig(vocab_size=23, context_length=6, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.0)


def ids_of(shape: tuple[int, ...], config: GPTConfig = TINY, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, shape)


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message
