"""Every kernel of a 124M step on its own: milliseconds, and the bytes and operations that it needs.

python benchmarks/gpu/kernels.py [--dry-run]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from step import Step

# isort: split
import numpy as np

from nanograd_gpt.backend.contract import AdamWNumbers, GradOut
from nanograd_gpt.backend.precision import set_precision
from nanograd_gpt.backend.select import kernels_of, to_device
from nanograd_gpt.bench.costs import cost_of
from nanograd_gpt.rng import Generator

POOL = (1 << 20) + 7  # random numbers, repeated in each array
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def gpu(array: Any) -> Any:
    return to_device(array, "cuda")


def calls(step: Step) -> Iterator[Call]:
    """Every kernel with the arguments that it has in the model, B = 8, T = 1024."""
    B, T, C, H, V = step.pick((8, 1024, 768, 12, 50257), (1, 64, 64, 2, 50))
    rng, N = Generator(1), B * T
    pool = rng.normal((POOL,))

    def random(*shape: int) -> Any:
        return gpu(np.resize(pool, shape))

    def result(*shape: int) -> Any:
        """Random numbers in the dtype of a layer's results."""
        from nanograd_gpt.backend.cuda.operands import operand, product_kind

        return operand(product_kind(N), random(*shape))

    stream, vector, x, dy = random(B, T, C), random(C), result(B, T, C), result(B, T, C)
    wide, dwide, qkv, dqkv = (result(B, T, n * C) for n in (4, 4, 3, 3))
    kernels, rate = kernels_of(x), 0.1

    def out(like: Any) -> GradOut:
        return GradOut(kernels.xp.empty_like(like), accumulate=False)

    _, mean, rstd = kernels.layer_norm(stream, vector, vector, 1e-5)
    yield "layer_norm", (stream, vector, vector, 1e-5), {}
    yield "layer_norm_backward", (dy, stream, vector, mean, rstd, out(vector), out(vector), stream), {}
    keep = kernels.keep_mask(rng, (B, T, C), rate)
    yield "dropout_add", (x, keep, rate, stream), {}
    yield "dropout", (stream, keep, rate, x.dtype), {}
    scores = kernels.keep_mask(rng, (B, H, T, T), rate)
    for mask, dropped in ((None, 0.0), (scores, rate)):
        context, lse = kernels.causal_attention(qkv, H, mask, dropped)
        yield "causal_attention", (qkv, H, mask, dropped), {}
        yield "causal_attention_backward", (dy, qkv, context, lse, H, mask, dropped), {}
    slots = gpu(np.full((B, 1), T - 1))  # the last of T tokens, the others being in the cache
    yield "cached_attention", (random(B, 1, 3 * C), *(random(B, H, T, C // H) for _ in range(2)), slots, T), {}
    packed, bias = random(3 * C * C), random(C)
    weights = [part.reshape(C, C) for part in (packed[: C * C], packed[C * C : 2 * C * C], packed[2 * C * C :])]
    used = kernels.product_weights(x, weights)
    yield "packed_linear", (x, used, [None] * 3), {}
    yield "packed_linear_backward", (dqkv, x, used, [out(w) for w in weights], [None] * 3, True), {}
    yield "linear", (x, used[0], bias), {}
    yield "linear_backward", (dy, x, used[0], out(weights[0]), out(bias), True), {}
    widen, wide_bias, narrow = random(4 * C, C), random(4 * C), random(C, 4 * C)
    used = kernels.product_weights(x, [widen, narrow])
    _, kept = kernels.linear_gelu(x, used[0], wide_bias, True)
    yield "linear_gelu", (x, used[0], wide_bias, True), {}
    yield "linear_gelu_backward", (dwide, x, used[0], kept, out(widen), out(wide_bias), True), {}
    yield "linear", (wide, used[1], bias), {}
    yield "linear_backward", (dy, wide, used[1], out(narrow), out(bias), True), {}
    ids, table = gpu(np.minimum((rng.uniform((B, T)) * V).astype(np.int64), V - 1)), random(V, C)
    yield "embedding", (table, ids), {}
    yield "embedding_backward", (stream, ids, out(table)), {}
    flat, targets, one = x.reshape(N, C), ids.reshape(-1), gpu(np.ones((), np.float32))
    _, lse, dlogits = kernels.linear_cross_entropy(flat, table, targets, True)
    yield "linear_cross_entropy", (flat, table, targets, True), {}
    head = one, flat, table, targets, lse, dlogits, out(table), True
    yield "linear_cross_entropy_backward", head, {}
    n = step.pick(124_000_000, 5000)
    arrays = [gpu(np.full(n, 0.01, np.float32)) for _ in range(4)]
    numbers = gpu(np.array(AdamWNumbers.at_step(3, 1e-3, (0.9, 0.999), eps=1e-8, weight_decay=0.1)))
    yield "clip_scale", ([arrays[1]], 1.0), {}
    yield "adamw", (*arrays, numbers, one), {}


def each(step: Step) -> None:
    for precision in ("fp32", "bf16"):
        set_precision(precision)
        for name, args, kwargs in calls(step):
            kernel: Callable[..., Any] = getattr(kernels_of(args[0][0] if isinstance(args[0], list) else args[0]), name)
            cost = cost_of(name, args, kwargs, kernel(*args, **kwargs))
            ms = time_of(step, lambda kernel=kernel, args=args, kwargs=kwargs: kernel(*args, **kwargs))
            step.emit(name, precision=precision, ms=ms, bytes=cost.bytes, flops=cost.flops)


def time_of(step: Step, work: Callable[[], object]) -> float:
    """Milliseconds of a call, from several in a row, so that the GPU never waits for Python."""
    n = step.pick(10, 1)

    def several() -> None:
        for _ in range(n):
            work()

    return step.milliseconds(several, rounds=5) / n


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(each))
