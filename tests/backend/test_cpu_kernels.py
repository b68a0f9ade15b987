"""The CPU kernels against the plain formulas, for sizes around a block's and a thread's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import AdamWNumbers, Array, GradOut
from nanograd_gpt.backend.cpu import activation, attention, blocks, loss, matmul, norm, optimizer, threads
from nanograd_gpt.backend.plain import activation as plain_activation
from nanograd_gpt.backend.plain import attention as plain_attention
from nanograd_gpt.backend.plain import dropout as plain_dropout
from nanograd_gpt.backend.plain import embedding as plain_embedding
from nanograd_gpt.backend.plain import loss as plain_loss
from nanograd_gpt.backend.plain import matmul as plain_matmul
from nanograd_gpt.backend.plain import norm as plain_norm
from nanograd_gpt.backend.plain import optimizer as plain_optimizer

RNG = np.random.default_rng(3)
SIZES = [0, 1, 1000, blocks.BLOCK_ELEMENTS - 1, blocks.BLOCK_ELEMENTS + 1, 9 * blocks.SHARED_BLOCK_ELEMENTS + 5]
DTYPES = [np.float32, np.float64, np.complex128]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lower all thresholds, so that small arrays take every path through a kernel."""
    before = threads.n_threads()
    threads.set_threads(2)
    for module, names in (
        (activation, {"BLOCK_ELEMENTS": 8, "SHARED_BLOCK_ELEMENTS": 16}),
        (blocks, {"BLOCK_ELEMENTS": 8, "SHARED_BLOCK_ELEMENTS": 16}),
        (optimizer, {"SHARED_BLOCK_ELEMENTS": 16}),
        (threads, {"MIN_HAND_OVERS": 0}),
        (
            matmul,
            {"MIN_SHARED_PRODUCT": 1, "MIN_SHARED_MATRIX": 1, "GIL_KEPT": 0, "SLICE_MULTIPLE": 2, "SKINNY_ROWS": 2},
        ),
        (attention, {"QUERY_BLOCK": 2, "SCORE_BLOCK_ELEMENTS": 12}),
        (loss, {"CHUNK_ELEMENTS": 20}),
        (norm, {"MIN_BLOCKED_ELEMENTS": 0, "SHARED_BLOCK_ELEMENTS": 16}),
    ):
        for name, value in names.items():
            monkeypatch.setattr(module, name, value)
    yield
    threads.set_threads(before)


def random(*shape: int, dtype: Any = np.float64) -> Array:
    real = RNG.standard_normal(shape)
    return (real + 1j * RNG.standard_normal(shape) if dtype == np.complex128 else real).astype(dtype)


def close(ours: Any, plain: Any) -> None:
    """Assert equality up to rounding, relative to the largest number."""
    assert ours.shape == plain.shape
    assert ours.dtype == plain.dtype
    limit = 200 * np.finfo(ours.dtype).eps * max(1.0, np.abs(plain).max(initial=0))
    assert np.abs(ours - plain).max(initial=0) <= limit


def sinks(*shapes: tuple[int, ...], add: bool, dtype: Any = np.float64) -> list[GradOut]:
    return [GradOut(np.full(shape, 0.5, dtype=dtype), add) for shape in shapes]


def compare(
    ours: Callable[..., Any],
    plain: Callable[..., Any],
    *arguments: Any,
    given: list[GradOut] | None = None,
    then: tuple[Any, ...] = (),
) -> None:
    """Call both, each with its own GradOuts, and compare results and GradOuts."""
    copies = [GradOut(s.array.copy(), s.accumulate) for s in given or []]
    results = [f(*arguments, *s, *then) for f, s in ((ours, given or []), (plain, copies))]
    a, b = (r if isinstance(r, tuple) else (r,) for r in results)
    for x, y in zip(a, b, strict=True):
        close(x, y)
    for x, y in zip(given or [], copies, strict=True):
        close(x.array, y.array)


# --- blocks


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("size", SIZES)
def test_every_element_is_visited_once_whatever_the_number_of_threads(
    size: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threads.n_threads()
    monkeypatch.setattr(threads, "MIN_HAND_OVERS", 0)
    threads.set_threads(number)
    visits = np.zeros(size, dtype=np.int64)

    def body(part: slice) -> None:
        visits[part] += 1

    blocks.for_each_block(size, 1, body)
    threads.set_threads(before)
    assert np.all(visits == 1)


@pytest.mark.parametrize(("n_rows", "width"), [(0, 3), (5, 0), (1, 10**6), (700, 999), (10**6, 1)])
def test_rows_are_never_cut(n_rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MIN_HAND_OVERS", 0)
    visits = np.zeros(n_rows, dtype=np.int64)

    def body(part: slice) -> None:
        visits[part] += 1

    blocks.for_each_block(n_rows, 1, body, width)
    assert np.all(visits == 1)


# --- kernels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_adamw_gives_the_bits_of_the_plain_formula(size: int, dtype: Any) -> None:
    start = [RNG.random(size).astype(dtype) for _ in range(4)]
    for beta1 in (0.0, 0.1, 0.5, 0.9):
        ours, plain = [a.copy() for a in start], [a.copy() for a in start]
        for step in (1, 2):
            numbers = np.array(AdamWNumbers.at_step(step, 3e-3, (beta1, 0.999), eps=1e-8, weight_decay=0.1))
            scale = None if step == 1 else np.asarray(0.3, dtype=dtype)
            cpu.adamw(*ours, numbers, scale)
            plain_optimizer.adamw(*plain, numbers, scale)
        for a, b in zip(ours, plain, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES[:-1])
def test_the_norm_and_the_clipping_factor_are_the_plain_formulas(size: int, dtype: Any) -> None:
    arrays = [random(size, dtype=dtype), random(3, 4, dtype=dtype)]
    for ours, plain in zip(cpu.clip_scale(arrays, 0.5), plain_optimizer.clip_scale(arrays, 0.5), strict=True):
        close(ours, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 5), (700, 640)], ids=str)
def test_gelu_is_the_plain_formula(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.asarray(3 * RNG.standard_normal(shape), dtype=dtype)
    for ours, plain in zip(cpu.gelu(x, True), plain_activation.gelu(x, True), strict=True):
        assert ours is not None
        assert plain is not None
        assert ours.shape == plain.shape
        assert np.abs(ours - plain).max(initial=0) <= 8 * np.finfo(dtype).eps * max(1, np.abs(x).max(initial=0))
    assert cpu.gelu(x, False)[1] is None


def test_gelu_takes_arrays_that_are_not_contiguous() -> None:
    x = RNG.standard_normal((6, 8))[::2, ::-1]
    compare(cpu.gelu, plain_activation.gelu, x, True)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("shape", [(0, 5), (9, 0), (9, 5), (1200, matmul.MIN_GEMV_COLUMN), (40_000, 30)], ids=str)
def test_a_linear_layer_of_one_row_is_the_plain_formula(shape: tuple[int, int], number: int) -> None:
    before = threads.n_threads()
    threads.set_threads(number)
    try:
        compare(cpu.linear, plain_matmul.linear, random(1, shape[1]), random(*shape), random(shape[0]))
    finally:
        threads.set_threads(before)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (5,), (0, 5), (1, 5)], ids=str)
def test_linear_layers_are_the_plain_formula(shape: tuple[int, ...], with_bias: bool, dtype: Any) -> None:
    x, weight = random(*shape, dtype=dtype), random(9, 5, dtype=dtype)
    bias = random(9, dtype=dtype) if with_bias else None
    compare(cpu.linear, plain_matmul.linear, x, weight, bias)
    compare(cpu.linear_gelu, plain_activation.linear_gelu, x, weight, bias, True)
    for add in (True, False):
        dweight, dbias = sinks((9, 5), (9,), add=add, dtype=dtype)
        compare(
            lambda *a: cpu.linear_backward(*a, True),
            lambda *a: plain_matmul.linear_backward(*a, True),
            random(*shape[:-1], 9, dtype=dtype),
            x,
            weight,
            given=[dweight, dbias],
        )


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("add", [True, False])
def test_packed_linear_is_the_plain_formula(add: bool, contiguous: bool, with_bias: bool, dtype: Any) -> None:
    x, dy = random(2, 4, 5, dtype=dtype), random(2, 4, 18, dtype=dtype)
    weights = [random(6, 5, dtype=dtype) for _ in range(3)]
    dweights = sinks(*[(6, 5)] * 3, add=add, dtype=dtype)
    if contiguous:  # as the optimizer lays them
        flat = np.concatenate([w.ravel() for w in [random(2, 5, dtype=dtype), *weights]])
        weights = list(flat[10:].reshape(3, 6, 5))
        gradients = np.full(100, 0.5, dtype=dtype)
        dweights = [GradOut(g, add) for g in gradients[10:].reshape(3, 6, 5)]
        assert matmul.as_contiguous_view(weights) is not None
    else:
        assert matmul.as_contiguous_view(weights) is None
    biases: list[Any] = [random(6, dtype=dtype) if with_bias else None for _ in range(3)]
    dbiases: list[Any] = sinks(*[(6,)] * 3, add=add, dtype=dtype) if with_bias else [None] * 3
    compare(cpu.packed_linear, plain_matmul.packed_linear, x, weights, biases)
    copies = (
        [GradOut(s.array.copy(), s.accumulate) for s in dweights],
        [s and GradOut(s.array.copy(), s.accumulate) for s in dbiases],
    )
    close(
        cpu.packed_linear_backward(dy, x, weights, dweights, dbiases, True),
        plain_matmul.packed_linear_backward(dy, x, weights, *copies, True),
    )
    for ours, plain in zip([*dweights, *dbiases], [*copies[0], *copies[1]], strict=True):
        if ours is not None:
            close(ours.array, plain.array)


@pytest.mark.parametrize("C", [96, 768, 2304])
def test_a_token_is_projected_by_one_product_with_the_bits_of_three(C: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, biases = random(1, 1, C, dtype=np.float32), list(random(3, C, dtype=np.float32))
    joined = list(random(3 * C * C, dtype=np.float32).reshape(3, C, C))
    assert matmul.as_contiguous_view(joined) is not None
    three = cpu.packed_linear(x, [weight.copy() for weight in joined], biases)
    sizes, one_row = list[int](), matmul._one_row
    monkeypatch.setattr(matmul, "_one_row", lambda a, b, out: (sizes.append(out.size), one_row(a, b, out)))
    np.testing.assert_array_equal(cpu.packed_linear(x, joined, biases), three)
    assert sizes == [3 * C]


def test_matrices_are_in_one_piece_only_where_each_follows_the_one_before() -> None:
    flat = np.arange(60.0)
    a, b, c = flat[:48].reshape(3, 4, 4)
    joined = matmul.as_contiguous_view([a, b, c])
    assert joined is not None
    assert np.shares_memory(joined, flat)
    np.testing.assert_array_equal(joined, np.concatenate([a, b, c]))
    for apart in ([a, c], [b, a], [a, a], [a, b[:2]], [a, b.T], [a, b.copy()], [a, flat[20:36].reshape(4, 4)]):
        assert matmul.as_contiguous_view(apart) is None


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(11, 6), (2, 3, 6), (6,), (0, 6), (5, 1)], ids=str)
def test_layer_norm_is_the_plain_formula(shape: tuple[int, ...], dtype: Any) -> None:
    x, scale, shift = random(*shape, dtype=dtype), random(shape[-1], dtype=dtype), random(shape[-1], dtype=dtype)
    compare(cpu.layer_norm, plain_norm.layer_norm, x, scale, shift, 1e-5)
    _, mean, rstd = plain_norm.layer_norm(x, scale, shift, 1e-5)
    for add in (True, False):
        given = sinks(scale.shape, shift.shape, add=add, dtype=dtype)
        dy = random(*shape, dtype=dtype)
        backward = cpu.layer_norm_backward, plain_norm.layer_norm_backward
        for residual in (None, random(*shape, dtype=dtype)):
            compare(*backward, dy, x, scale, mean, rstd, given=given, then=(residual,))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize(("B", "T", "H"), [(1, 1, 1), (2, 5, 3), (3, 2, 2), (5, 4, 1), (0, 3, 2)])
def test_attention_is_the_plain_formula(B: int, T: int, H: int, rate: float, dtype: Any) -> None:
    qkv, keep = random(B, T, 3 * H * 4, dtype=dtype), RNG.random((B, H, T, T)) < 0.7 if rate else None
    compare(cpu.causal_attention, plain_attention.causal_attention, qkv, H, keep, rate)
    context, lse = plain_attention.causal_attention(qkv, H, keep, rate)
    dy = random(B, T, H * 4, dtype=dtype)
    backward = cpu.causal_attention_backward, plain_attention.causal_attention_backward
    compare(*backward, dy, qkv, context, lse, H, keep, rate)


def test_attention_over_no_tokens_is_empty() -> None:
    qkv, dy = random(2, 0, 24), random(2, 0, 8)
    context, lse = cpu.causal_attention(qkv, 2, None, 0.0)
    assert context.shape == (2, 0, 8)
    assert cpu.causal_attention_backward(dy, qkv, context, lse, 2, None, 0.0).shape == (2, 0, 24)


@pytest.mark.parametrize("T", [1, 63, 64, 65, 66, 95, 96, 128, 250, 1000])
def test_blocks_of_queries_are_about_equal_and_see_every_key_up_to_their_last(T: int) -> None:
    parts = list(attention._query_blocks(T))
    sizes = [queries.stop - queries.start for queries, _ in parts]
    assert [seen.stop for _, seen in parts] == np.cumsum(sizes).tolist()
    assert sum(sizes) == T
    assert max(sizes) < 1.5 * attention.QUERY_BLOCK
    assert max(sizes[:-1], default=0) == min(sizes[:-1], default=0)


@pytest.mark.parametrize(("B", "H", "T"), [(2, 4, 64), (8, 12, 256), (1, 12, 1024), (16, 4, 66), (5, 12, 128)])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_tiles_of_heads_cover_each_once_and_are_about_as_large_as_the_cache(
    B: int, H: int, T: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MIN_HAND_OVERS", 0)
    visits, sizes, before = np.zeros((B, H), int), [], threads.n_threads()

    def body(tile: attention.HeadTile) -> None:
        visits[tile] += 1
        sizes.append(visits[tile].size * min(T, attention.QUERY_BLOCK) * T)

    threads.set_threads(number)
    attention._parallel_heads(B, H, T, body)
    threads.set_threads(before)
    assert np.all(visits == 1)
    assert len(sizes) >= number
    assert max(sizes) <= 2 * attention.SCORE_BLOCK_ELEMENTS


def test_a_rate_without_a_mask_drops_nothing() -> None:
    qkv = random(2, 3, 12)
    for ours, plain in zip(cpu.causal_attention(qkv, 2, None, 0.4), cpu.causal_attention(qkv, 2, None, 0), strict=True):
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_is_the_plain_formula(dtype: Any) -> None:
    x, residual, keep = random(9, 7, dtype=dtype), random(9, 7, dtype=dtype), RNG.random((9, 7)) < 0.6
    compare(cpu.dropout, plain_dropout.dropout, x, keep, 0.4)
    compare(cpu.dropout_add, plain_dropout.dropout_add, x, keep, 0.4, residual)
    compare(cpu.dropout_add, plain_dropout.dropout_add, x.T, keep.T, 0.4, residual.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ids", [[[2, 0], [2, 2]], [], [4, 3, 2, 1, 0], [[1]]], ids=str)
@pytest.mark.parametrize("add", [True, False])
def test_embedding_is_the_plain_formula(add: bool, ids: Any, dtype: Any) -> None:
    ids = np.array(ids, dtype=np.int64)
    compare(cpu.embedding, plain_embedding.embedding, random(5, 3, dtype=dtype), ids)
    ours = sinks((5, 3), add=add, dtype=dtype)[0]
    plain = GradOut(ours.array.copy(), add)
    dy = random(*ids.shape, 3, dtype=dtype)
    cpu.embedding_backward(dy, ids, ours)
    plain_embedding.embedding_backward(dy, ids, plain)
    close(ours.array, plain.array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_ids", [1, 7, 80, 1000])  # of 300 rows: from all of one id to few of one
def test_rows_of_an_id_are_added_in_the_order_of_reduceat(n_ids: int, dtype: Any) -> None:
    ids, dy = RNG.integers(0, n_ids, 300) ** 2 // n_ids, random(300, 6, dtype=dtype)
    ours = GradOut(np.empty((n_ids, 6), dtype), False)
    cpu.embedding_backward(dy, ids, ours)
    order = np.argsort(ids, kind="stable")
    occurring, starts = np.unique(ids[order], return_index=True)
    expected = np.zeros((n_ids, 6), dtype)
    expected[occurring] = np.add.reduceat(dy[order], starts, axis=0)
    np.testing.assert_array_equal(ours.array, expected)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize(("N", "V"), [(1, 1), (3, 6), (7, 5), (9, 30)])  # one part, several, a row longer than a part
def test_the_heads_cross_entropy_is_the_plain_formula(N: int, V: int, add: bool, dtype: Any) -> None:
    x, weight, targets = random(N, 4, dtype=dtype), random(V, 4, dtype=dtype), RNG.integers(0, V, N)
    value, lse, kept = cpu.linear_cross_entropy(x, weight, targets, True)
    plain_value, plain_lse, nothing = plain_loss.linear_cross_entropy(x, weight, targets, True)
    assert nothing is None
    close(np.asarray(value), np.asarray(plain_value))
    close(lse, plain_lse)
    assert cpu.linear_cross_entropy(x, weight, targets, False)[2] is None
    ours = sinks((V, 4), add=add, dtype=dtype)[0]
    plain = GradOut(ours.array.copy(), add)
    dloss, rest = np.asarray(0.7, dtype=dtype), (x, weight, targets)
    close(
        cpu.linear_cross_entropy_backward(dloss, *rest, lse, kept, ours, True),
        plain_loss.linear_cross_entropy_backward(dloss, *rest, lse, None, plain, True),
    )
    close(ours.array, plain.array)


def test_a_kernel_leaves_its_inputs_alone() -> None:
    x, weight, bias = random(4, 3), random(5, 3), random(5)
    copies = x.copy(), weight.copy(), bias.copy()
    cpu.linear_gelu(x, weight, bias, True)
    assert all(np.array_equal(a, b) for a, b in zip((x, weight, bias), copies, strict=True))
