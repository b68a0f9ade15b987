"""Estimates before training: memory from the sizes, time from the speed of a matrix product on this machine."""

from __future__ import annotations

from time import perf_counter

from ..backend.select import Device, kernels_of, synchronize, to_device
from ..gpt.config import GPTConfig
from ..rng import Generator

BYTES = 4  # per float32
SHARE_IN_PRODUCTS = 0.4  # fraction of a step's time in matrix products; measured on both presets, good to a factor of 2


def memory_bytes(model: GPTConfig, batch_size: int) -> int:
    """Estimate the bytes of weights, gradients, AdamW's two moments, and activations saved for backward."""
    tokens = batch_size * model.context_length
    channels, attention = 16 * model.emb_dim, model.n_heads * model.context_length
    activations = tokens * model.n_layers * (BYTES * channels + (BYTES + 1) * attention)
    return 4 * BYTES * model.n_parameters + activations


def step_flops(model: GPTConfig, tokens: int) -> float:
    """Count the FLOPs of the matrix products of one update: forward, and twice that backward."""
    looked_up = model.context_length + (0 if model.tied_head else model.vocab_size)  # rows in no product
    in_products = model.n_parameters - looked_up * model.emb_dim
    attention = 2 * model.n_layers * model.context_length * model.emb_dim
    return 3 * tokens * (2.0 * in_products + 2.0 * attention)


def step_seconds(model: GPTConfig, tokens: int, device: Device) -> float:
    """Estimate the seconds of one update, roughly."""
    return step_flops(model, tokens) / (flops_per_second(device) * SHARE_IN_PRODUCTS)


def flops_per_second(device: Device, size: int = 768, rounds: int = 5) -> float:
    """Measure the FLOP/s of a product of two float32 matrices: the best of a few rounds."""
    a = to_device(Generator().uniform((size, size)), device)
    kernels_of(a).xp.matmul(a, a)  # warm-up
    times = []
    for _ in range(rounds):
        synchronize(device)
        start = perf_counter()
        kernels_of(a).xp.matmul(a, a)
        synchronize(device)
        times.append(perf_counter() - start)
    return 2.0 * size**3 / min(times)
