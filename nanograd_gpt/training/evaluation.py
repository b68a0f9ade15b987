"""Loss of a whole text, in windows that may overlap: every token but the first is predicted exactly once.

A token at the start of a window has almost no context.  Windows that begin every `stride` tokens score only tokens that
the previous window did not reach, so a shorter stride gives every token more context, at a higher cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import exp, fsum, inf, log
from typing import NamedTuple

import numpy as np
import tiktoken

from ..arguments import whole_number
from ..backend.contract import Ints
from ..backend.select import to_device, to_host
from ..errors import InputError, counted
from ..gpt.model import GPTModel
from ..nn import functional as F
from ..nn.inference_mode import inference_mode
from ..nn.token_ids import TokenIds, as_ids

MAX_EXPONENT = 700  # exp overflows a float64 above about 709


class TextLoss(NamedTuple):
    """Loss of a text under a model."""

    nats: float  # minus the log probability of all predicted tokens together
    tokens: int  # predicted tokens: all but the first
    windows: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss), the number of equally likely tokens with the same loss; inf on overflow."""
        return inf if self.loss > MAX_EXPONENT else exp(self.loss)

    def bits_per_byte(self, n_bytes: int) -> float:
        """Bits per byte, given the predicted tokens' n_bytes; comparable between tokenizers, unlike the loss."""
        return self.nats / log(2) / n_bytes


class Window(NamedTuple):
    """Inputs start .. stop - 1, each predicting the next token; the last `scored` predictions count."""

    start: int
    stop: int
    scored: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def evaluate_text(model: GPTModel, ids: TokenIds, stride: int | None = None, batch_size: int = 1) -> TextLoss:
    """Compute the loss of a whole text, in windows of context_length tokens; the last may be shorter.

    ids (n,)  ->  a TextLoss over n - 1 predicted tokens: nats, loss per token, perplexity, bits per byte

    model               GPTModel; runs without dropout, and its mode is restored afterwards
    ids                 token ids (n,), n >= 2: an array or a list
    stride              int in 1 .. context_length: tokens between the starts of windows [context_length, no overlap]
    batch_size          int >= 1 [1]: windows per forward pass

    Each token is predicted once, in the first window that reaches it, which gives it the most context.
    Raises InputError for fewer than 2 tokens, ids outside the vocabulary and settings out of range.

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> found = evaluate_text(model, np.arange(20), stride=4)
    >>> print(f"{found.tokens} tokens in {found.windows} windows: loss {found.loss:.3f}, log(100) = {np.log(100):.3f}")
    19 tokens in 4 windows: loss 4.807, log(100) = 4.605
    """
    ids, length = to_host(as_ids(ids)), model.config.context_length
    _check(model, ids)
    stride = (
        length if stride is None else whole_number("stride", stride, 1, length, f"1 .. {length}, the context length")
    )
    batch_size = whole_number("batch_size", batch_size, 1)
    windows = sliding_windows(len(ids), length, stride)
    with inference_mode(model):
        nats = fsum(_nats(model, ids, batch) for batch in _batches(windows, batch_size))
    return TextLoss(nats, len(ids) - 1, len(windows))


def sliding_windows(n: int, length: int, stride: int) -> list[Window]:
    """List the windows over a text of n >= 2 tokens."""
    windows: list[Window] = []
    seen = 0  # the last token predicted so far
    while seen < n - 1:
        start = len(windows) * stride
        stop = min(start + length, n - 1)
        windows.append(Window(start, stop, scored=stop - seen))
        seen = stop
    return windows


def count_bytes(ids: Ints, tokenizer: tiktoken.Encoding) -> int:
    """Count the UTF-8 bytes of tokens ids (n,), which may begin or end inside a character."""
    return sum(len(tokenizer.decode_single_token_bytes(i)) for i in ids.tolist())


def _batches(windows: list[Window], batch_size: int) -> Iterator[list[Window]]:
    """Group windows of equal length into batches."""
    for _, group in groupby(windows, key=lambda window: window.length):
        equal = list(group)
        for i in range(0, len(equal), batch_size):
            yield equal[i : i + batch_size]


def _nats(model: GPTModel, ids: Ints, batch: list[Window]) -> float:
    """Sum the loss of a batch's scored tokens; the head runs on those alone."""
    T = batch[0].length
    at = np.array([window.start for window in batch])[:, None] + np.arange(T)  # (B, T)
    scored = np.arange(T) >= T - np.array([[window.scored] for window in batch])  # (B, T)
    x = model.hidden_states(ids[at])[np.nonzero(scored)]  # (N, C)
    targets = to_device(ids[at[scored] + 1], model.device)  # (N,)
    mean = F.linear_cross_entropy(x, model.out_head.weight, targets)
    return float(mean) * len(targets)


def _check(model: GPTModel, ids: Ints) -> None:
    V = model.config.vocab_size
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InputError(f"text: expected token ids of shape (n,), got {ids.dtype} of shape {ids.shape}")
    if len(ids) < 2:
        raise InputError(f"text: it has {counted(len(ids), 'token')}; give 2 or more, one to predict another from")
    if not 0 <= ids.min() <= ids.max() < V:
        raise InputError(f"text: {ids.min()} .. {ids.max()} reach outside the vocabulary, 0 .. {V - 1}")
