"""The GPU's ceilings: products of 8192 in each arithmetic, a copy of 1 GiB; and cuBLASLt for the model's products."""

from __future__ import annotations

import sys
from typing import Any

from step import Step

# isort: split
import numpy as np

KINDS = "float32", "tf32", "bf16"
POOL = (1 << 20) + 7  # random numbers
# Products of a 124M step at B = 8, T = 1024: rows, columns and inner length of each, forward and backward.
TOKENS, C, V = 8192, 768, 50257
PRODUCTS = {
    "qkv": (TOKENS, 3 * C, C),
    "projection": (TOKENS, C, C),
    "widen": (TOKENS, 4 * C, C),
    "narrow": (TOKENS, C, 4 * C),
    "head": (TOKENS, V, C),
}


def matrix(rows: int, columns: int, kind: str) -> Any:
    """Random numbers, repeated: a GPU multiplies zeros faster, with less power."""
    import cupy

    from nanograd_gpt.backend.cuda.operands import operand

    pool = cupy.asarray(np.random.default_rng(0).standard_normal(POOL).astype(np.float32))
    return operand(kind, pool[cupy.arange(rows * columns) % POOL].reshape(rows, columns))


def timed_product(step: Step, shape: tuple[int, int, int], kind: str, transposed: str = "") -> float:
    """Milliseconds of out (M, N) = a (M, K) b (K, N), with operands stored transposed where `transposed` names them."""
    import cupy

    from nanograd_gpt.backend.cuda.gemm import gemm

    M, N, K = shape
    a = matrix(K, M, kind).T if "a" in transposed else matrix(M, K, kind)
    b = matrix(N, K, kind).T if "b" in transposed else matrix(K, N, kind)
    out = cupy.empty((M, N), dtype=a.dtype)
    return step.milliseconds(lambda: gemm(a, b, out, kind=kind))


def squares(step: Step) -> None:
    n = step.pick(8192, 64)
    for kind in KINDS:
        ms = timed_product(step, (n, n, n), kind)
        step.emit("product", kind=kind, n=n, ms=ms, tflops=2e-9 * n**3 / ms)


def copy(step: Step) -> None:
    import cupy

    source = cupy.ones(step.pick(1 << 28, 1 << 12), dtype=np.float32)
    target = cupy.empty_like(source)
    ms = step.milliseconds(lambda: cupy.copyto(target, source))
    step.emit("copy", bytes=source.nbytes, ms=ms, gb_per_second=2e-6 * source.nbytes / ms)


def model_products(step: Step) -> None:
    """Each layer's three products: y = x W^T, dx = dy W, dW = dy^T x."""
    for name, shape in PRODUCTS.items():
        M, N, K = step.pick(shape, (16, 24, 8))
        for kind in KINDS:
            cases = {"forward": ((M, N, K), "b"), "dx": ((M, K, N), ""), "dw": ((N, K, M), "a")}
            ms = {case: timed_product(step, sizes, kind, transposed) for case, (sizes, transposed) in cases.items()}
            step.emit("model product", layer=name, kind=kind, ms=ms, tflops=2e-9 * 3 * M * N * K / sum(ms.values()))


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(squares, copy, model_products))
