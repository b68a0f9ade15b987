"""Estimates before training: memory from the sizes, time from one block and the head, timed at their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ..backend.cpu.allocator import keep_freed_memory
from ..backend.cpu.loss import CHUNK_ELEMENTS
from ..backend.select import Device, synchronize, to_device
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..nn.module import Sequential
from ..optim import AdamW
from ..rng import RandomStream
from ..tensor import Tensor
from .statistics import summary
from .step import random_batch, repeated

BYTES = 4  # per float32
TIMED_TOKENS = 2048  # a larger batch is timed on as many of its rows
TIMED_VOCABULARY = 4096  # a larger head is timed on as many of its rows
TIMED_SECONDS = 0.02  # for each part; at least three calls, or one that is long
LONG_SECONDS = 0.3


# --- memory


def memory_bytes(model: GPTConfig, batch_size: int) -> int:
    """Estimate the peak of training's arrays: in backward, on drawing the last mask, or on building the model.

    Weights, gradients and AdamW's two moments, as if all tokens of the vocabulary occurred; what is saved for backward;
    temporary arrays.
    """
    N, C, V = batch_size * model.context_length, model.emb_dim, model.vocab_size
    state = 4 * BYTES * model.n_parameters
    saved = model.n_layers * _saved_by_block(model, N) + _saved_outside_blocks(model, N)
    head = logits_bytes(N, V) + 2 * BYTES * N * C  # the gradient of its input, and that input times the loss's gradient
    if n_chunks(N, V) > 1:
        head += BYTES * V * C  # a chunk's part of the weight's gradient, before it is added
    block = 10 * BYTES * N * C  # the gradients of its output, of both sides of GELU, and of its input
    backward = saved + max(head, block)
    return max(state + max(backward, _drawing_bytes(model, N)), _building_bytes(model))


def _saved_by_block(model: GPTConfig, N: int) -> int:
    """Bytes that a block saves for N tokens: its layers' inputs, Q, K and V, GELU's derivative, dropout's masks."""
    C, H, T = model.emb_dim, model.n_heads, model.context_length
    inputs = 12  # of norm1, Q/K/V's projection, its output (3), out_proj, norm2, and the feed-forward's layers (1 + 4)
    floats = (inputs + 4) * C + H + 4  # GELU's derivative; a log-sum-exp per head; two means and deviations
    masks = H * T + 2 * C if model.drop_rate else 0  # one byte each
    return N * (BYTES * floats + masks)


def _saved_outside_blocks(model: GPTConfig, N: int) -> int:
    """Bytes saved by the embedding's dropout, the final norm, and the head's input."""
    C = model.emb_dim
    return N * (BYTES * (2 * C + 2) + (C if model.drop_rate else 0))


def _drawing_bytes(model: GPTConfig, N: int) -> int:
    """Bytes in use in the last block while its attention's mask is drawn, from 16 random bits for each element."""
    if not model.drop_rate:
        return 0
    before = 5 * BYTES * model.emb_dim  # inputs of norm1 and of the projection, whose output is three times as wide
    mask = (2 + 1) * model.n_heads * model.context_length
    return (model.n_layers - 1) * _saved_by_block(model, N) + N * (before + mask)


def logits_bytes(N: int, V: int) -> int:
    """Bytes of the head's logits for N tokens: the first chunk is kept for backward while others come and go."""
    chunk = min(N, max(1, CHUNK_ELEMENTS // V))
    return BYTES * V * chunk * min(2, n_chunks(N, V))


def n_chunks(N: int, V: int) -> int:
    """Number of chunks of the head's logits."""
    return -(-N // max(1, CHUNK_ELEMENTS // V))


def _building_bytes(model: GPTConfig) -> int:
    """Peak while the weights are drawn: the token embedding first, from seven float64 arrays of its size."""
    return 7 * 2 * BYTES * model.vocab_size * model.emb_dim


# --- time


class Times(NamedTuple):
    """Seconds of the parts of a training run."""

    update: float
    forward: float  # of a batch, without a graph
    token: float  # generated

    def total(self, updates: int, evaluated_batches: int, generated_tokens: int) -> float:
        """Seconds of a whole run, without checkpoints and figures."""
        return updates * self.update + evaluated_batches * self.forward + generated_tokens * self.token


def training_times(
    model: GPTConfig,
    batch_size: int,
    device: Device,
    rng: RandomStream,
    *,
    accumulate: int = 1,
    clipped: bool = False,
) -> Times:
    """Time a block, the embeddings with the head, and AdamW on this machine, at the model's own sizes.

    rng draws the dropout masks.  A large batch and a large vocabulary are timed in part, as the time is proportional to
    both; the model that is timed has one block.
    """
    keep_freed_memory()
    rows = min(batch_size, max(1, TIMED_TOKENS // model.context_length))
    vocab_size = min(model.vocab_size, TIMED_VOCABULARY)
    small = GPTModel(replace(model, n_layers=1, vocab_size=vocab_size), rng=rng).to(device)
    optimizer, n_parameters = AdamW(small.parameters()), small.n_parameters
    ids, targets = random_batch(small.config, rows, model.context_length)
    x = to_device(np.ones((rows, model.context_length, model.emb_dim), dtype=np.float32), device)
    blocks, small.trf_blocks = small.trf_blocks, Sequential()  # what is left of the model: embeddings, norm and head

    def block_update() -> None:
        optimizer.zero_grad()
        blocks(Tensor(x, requires_grad=True)).backward(x)

    def head_update() -> None:
        optimizer.zero_grad()
        small.loss(ids, targets).backward()

    block = seconds_of(block_update, device)
    head = seconds_of(head_update, device)
    blocks(Tensor(x)).sum().backward()  # so that all parameters have a gradient
    adamw = seconds_of(lambda: optimizer.step(1.0 if clipped else None), device) * model.n_parameters / n_parameters
    with inference_mode(small), inference_mode(blocks):
        block_forward = seconds_of(lambda: blocks(Tensor(x)), device)
        head_forward = seconds_of(lambda: small.loss(ids, targets), device)
        block_token = seconds_of(lambda: blocks(Tensor(x[:1, :1])), device)
        head_token = seconds_of(lambda: small.next_token_logits(ids[:1, :1]), device)
    L, share, wider = model.n_layers, batch_size / rows, model.vocab_size / vocab_size
    again = 1 - 1 / n_chunks(batch_size * model.context_length, model.vocab_size)  # of the logits: in backward
    return Times(
        update=accumulate * share * (L * block + wider * (head + again * head_forward)) + adamw,
        forward=share * (L * block_forward + wider * head_forward),
        token=L * block_token + wider * head_token,
    )


def seconds_of(work: Callable[[], object], device: Device) -> float:
    """Median seconds of work after a first call."""

    def timed() -> float:
        synchronize(device)
        start = perf_counter()
        work()
        synchronize(device)
        return perf_counter() - start

    long = timed() > LONG_SECONDS
    return summary(repeated(timed, TIMED_SECONDS, at_least=1 if long else 3)).median
