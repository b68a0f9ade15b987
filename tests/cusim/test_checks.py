"""The checks of kernels pass what is right and fail for each kind of bug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cusim.checks import (
    FLOAT32,
    caught,
    changed_once,
    needs_compiler,
    planted,
    races_of,
    relative_error,
    same_in_every_order,
)
from cusim.errors import CompilerError
from cusim.memory import HostArray, empty
from cusim.simulator import RawModule

CODE = """
extern "C" __global__ void row_sums(const float* x, float* y, int columns) {
  __shared__ float part[2];
  float s = 0;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) s += x[blockIdx.x * columns + c];
  for (int o = 16; o; o >>= 1) s += __shfl_xor_sync(0xffffffffu, s, o);
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = s;
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = part[0] + part[1];
}
"""
BUGS = [
    ("  __syncthreads();\n", ""),
    ("c < columns", "c <= columns"),
    ("o >>= 1", "o >>= 2"),
    ("part[0] + part[1]", "part[0]"),
    ("y[blockIdx.x] =", "y[blockIdx.x + 1] ="),
    ("  __syncthreads", "  if (threadIdx.x > 40) return;\n  __syncthreads"),
    ("s += x[", "s = x["),
    ("__shared__ float part[2]", "__shared__ float part[1]"),
]


@pytest.fixture(scope="module")
def row_sums() -> Callable[[], HostArray]:
    function = RawModule(code=CODE).get_function("row_sums")

    def run() -> HostArray:
        function((3,), (64,), (matrix(), y := empty(3), np.int32(77)))
        return y

    return run


def matrix() -> HostArray:
    return np.random.default_rng(0).standard_normal((3, 77)).astype(np.float32)


def check(run: Callable[[], Any]) -> None:
    (y,) = same_in_every_order(run)
    assert relative_error(y, matrix().astype(np.float64).sum(axis=1)) < FLOAT32


@needs_compiler
def test_a_kernel_without_bugs_passes(row_sums: Callable[[], Any]) -> None:
    check(row_sums)
    assert races_of(row_sums) == []


@needs_compiler
@pytest.mark.parametrize(("old", "new"), BUGS)
def test_a_planted_bug_is_caught_in_a_module_that_was_compiled_before(
    row_sums: Callable[[], Any], old: str, new: str
) -> None:
    check(row_sums)
    with planted(CODE, old, new), caught():
        check(row_sums)
    check(row_sums)


@needs_compiler
def test_a_bug_that_is_not_caught_fails_the_test(row_sums: Callable[[], Any]) -> None:
    with pytest.raises(pytest.fail.Exception, match="not caught"), planted(CODE, "= s;", "= s + 0;"), caught():
        check(row_sums)


@needs_compiler
def test_a_bug_is_planted_in_an_included_file(tmp_path: Path) -> None:
    (tmp_path / "square.cuh").write_text("__device__ float square(float x) { return x * x; }\n")
    code = '#include "square.cuh"\nextern "C" __global__ void f(float* y) { y[threadIdx.x] = square(threadIdx.x); }'
    function = RawModule(code=code, options=(f"-I{tmp_path}",)).get_function("f")

    def check_squares() -> None:
        function((1,), (8,), (y := empty(8),))
        assert y.tolist() == [i * i for i in range(8)]

    check_squares()
    with planted(tmp_path / "square.cuh", "x * x", "x + x"), caught():
        check_squares()


@pytest.mark.parametrize(("old", "count"), [("float", 4), ("nowhere", 0)])
def test_what_a_bug_replaces_is_in_the_text_exactly_once(old: str, count: int) -> None:
    with pytest.raises(AssertionError, match=f"is {count} times in the text"):
        changed_once("float float\nfloat float", old, "double")


def test_a_compilers_error_is_not_a_caught_bug() -> None:
    with pytest.raises(CompilerError), caught():
        raise CompilerError("sum.cuh:3:5: error: expected ';'")


@needs_compiler
def test_bits_that_depend_on_the_order_of_threads_or_blocks_are_found() -> None:
    code = 'extern "C" __global__ void last(int* y, int blocks) { *y = blocks ? blockIdx.x : threadIdx.x; }'
    function = RawModule(code=code).get_function("last")
    for blocks in (0, 1):

        def run(blocks: int = blocks) -> list[HostArray]:
            function((9,), (32,), (y := empty(1, np.int32), np.int32(blocks)))
            return [np.zeros(3), y]

        with pytest.raises(AssertionError, match="array 1 has other bits with the threads reversed"):
            same_in_every_order(run)


def test_a_nan_in_the_same_place_is_the_same_bits_and_an_infinite_error() -> None:
    y = empty(4)
    assert same_in_every_order(lambda: y)[0] is not y
    assert relative_error(y, np.ones(4)) == float("inf")


def test_the_error_is_relative_to_the_references_norm() -> None:
    expected = np.array([3.0, 4.0])
    assert relative_error(np.array([3.0, 4.5], np.float32), expected) == pytest.approx(0.1)
    assert relative_error(np.array([0.0, 1e-3]), np.zeros(2)) == pytest.approx(1e-3)
    with pytest.raises(AssertionError, match=r"the shape is \(1, 2\), of the reference \(2,\)"):
        relative_error(expected[None], expected)
