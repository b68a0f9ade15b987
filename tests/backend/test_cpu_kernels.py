"""The CPU's own kernels against the plain formulas, over sizes on both sides of a block and of a thread."""

from __future__ import annotations

import numpy as np
import pytest

from nanograd_gpt.backend.cpu import activation, blocks, optimizer
from nanograd_gpt.backend.plain import activation as plain_activation
from nanograd_gpt.backend.plain import optimizer as plain_optimizer

RNG = np.random.default_rng(3)
SIZES = [0, 1, 1000, blocks.BLOCK - 1, blocks.BLOCK + 1, 9 * blocks.BLOCK + 5]


@pytest.mark.parametrize("n_cpus", [1, 2, 5])
@pytest.mark.parametrize("size", SIZES)
def test_every_element_is_visited_once_whatever_the_number_of_threads(size, n_cpus, monkeypatch):
    monkeypatch.setattr(blocks, "cpu_count", lambda: n_cpus)
    visits = np.zeros(size, dtype=np.int64)

    def body(part):
        visits[part] += 1

    blocks.for_each_block(size, body)
    assert np.all(visits == 1)


def test_an_error_in_a_thread_is_raised_to_the_caller(monkeypatch):
    monkeypatch.setattr(blocks, "cpu_count", lambda: 2)

    def body(part):
        if part.start == blocks.BLOCK:  # the second block, which is another thread's
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        blocks.for_each_block(9 * blocks.BLOCK, body)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_adamw_gives_the_bits_of_the_plain_formula(size, dtype):
    start = [RNG.random(size).astype(dtype) for _ in range(4)]
    ours, plain = [a.copy() for a in start], [a.copy() for a in start]
    for step in (1, 2):
        settings = {"step": step, "lr": 3e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
        optimizer.adamw(*ours, **settings)
        plain_optimizer.adamw(*plain, **settings)
    for a, b in zip(ours, plain, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 5), (700, 640)], ids=str)
def test_gelu_is_the_plain_formula(shape, dtype):
    x = np.asarray(3 * RNG.standard_normal(shape), dtype=dtype)
    for ours, plain in zip(activation.gelu(x, True), plain_activation.gelu(x, True), strict=True):
        assert ours.shape == plain.shape
        assert np.abs(ours - plain).max(initial=0) <= 8 * np.finfo(dtype).eps * max(1, np.abs(x).max(initial=0))
    assert activation.gelu(x, False)[1] is None


def test_gelu_takes_arrays_that_are_not_contiguous():
    x = RNG.standard_normal((6, 8))[::2, ::-1]
    assert np.allclose(activation.gelu(x, True)[1], plain_activation.gelu(x, True)[1])


def test_linear_gelu_leaves_its_inputs_alone():
    x, weight, bias = RNG.standard_normal((4, 3)), RNG.standard_normal((5, 3)), RNG.standard_normal(5)
    copies = x.copy(), weight.copy(), bias.copy()
    y, slope = activation.linear_gelu(x, weight, bias, True)
    plain_y, plain_slope = plain_activation.linear_gelu(x, weight, bias, True)
    assert np.allclose(y, plain_y, rtol=1e-14)
    assert np.allclose(slope, plain_slope, rtol=1e-13)
    assert all(np.array_equal(a, b) for a, b in zip((x, weight, bias), copies, strict=True))
