"""A small text with tokenizers and a small model, and the book's story if it is available."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.data import DataLoader, create_dataloader_v1

SENTENCE = "the sun rose over a quiet river and an old miller opened his door to see who had come with the wind"
WORDS = SENTENCE.split()
TEXT = " ".join(WORDS[(7 * i + i // 5) % len(WORDS)] for i in range(160))
BYTES = train_tokenizer("", 0)  # a byte is its own id
CONFIG = GPTConfig(vocab_size=BYTES.n_vocab, context_length=8, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.0)


def small_model(seed: int = 0, dtype: Any = np.float32, **sizes: Any) -> GPTModel:
    return GPTModel({**CONFIG.to_dict(), **sizes}, rng=Generator(seed)).to(dtype=dtype)


def small_loader(text: str = TEXT, batch_size: int = 4, shuffle: bool = True, seed: int = 0, **more: Any) -> DataLoader:
    """Loader of windows of 8 bytes without overlap."""
    rng = Generator(seed, 1)
    more = {"max_length": 8, "stride": 8, "tokenizer": BYTES, **more}
    return create_dataloader_v1(text, batch_size, shuffle=shuffle, drop_last=shuffle, rng=rng, **more)


def ascii_text(n_tokens: int) -> str:
    """Text that the tokenizer BYTES encodes as 0, 1, 2 ..."""
    assert n_tokens <= 128
    return "".join(map(chr, range(n_tokens)))


def verdict_path() -> Path:
    """The book's story; skips the test if it is not available."""
    path = Path(os.environ.get("NANOGRAD_TEST_DATA", ".")) / "the-verdict.txt"
    if not path.is_file():
        pytest.skip("the-verdict.txt is not in NANOGRAD_TEST_DATA")
    return path


def one_line(error: pytest.ExceptionInfo[InputError] | pytest.ExceptionInfo[RunError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message
