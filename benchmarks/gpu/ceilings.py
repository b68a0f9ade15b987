"""The GPU's ceilings: products of 8192 in each arithmetic, a copy of 1 GiB; and cuBLASLt for the model's products."""

from __future__ import annotations

import sys
from typing import Any

from step import Step

# isort: split
import numpy as np

KINDS = {"float32": np.float32, "tf32": np.float32, "bf16": np.uint16}
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


def matrix(rows: int, columns: int, dtype: Any) -> Any:
    """Random numbers, repeated: a GPU multiplies zeros faster, with less power."""
    import cupy

    pool = cupy.asarray(np.random.default_rng(0).standard_normal(POOL).astype(np.float32))
    numbers = pool[cupy.arange(rows * columns) % POOL].reshape(rows, columns)
    if dtype is np.float32:
        return numbers
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # rounded to the nearest, ties to even


def timed_product(step: Step, shape: tuple[int, int, int], kind: str, transposed: str = "") -> float:
    """Milliseconds of out (M, N) = a (M, K) b (K, N), with operands stored transposed where `transposed` names them."""
    import cupy

    from nanograd_gpt.backend.cuda.gemm import gemm

    (M, N, K), dtype = shape, KINDS[kind]
    a = matrix(K, M, dtype).T if "a" in transposed else matrix(M, K, dtype)
    b = matrix(N, K, dtype).T if "b" in transposed else matrix(K, N, dtype)
    out = cupy.empty((M, N), dtype=dtype)
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
