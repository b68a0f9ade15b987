"""The kernels of an_attention_kernel.cu: launches, the bytes and FLOPs to expect of them, and runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the clone's: the simulator that tests all CUDA kernels

from cusim.compiler import missing_compiler
from cusim.counting import Counts
from cusim.simulator import RawModule, counted_launches

__all__ = ["missing_compiler"]

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "scripts" / "an_attention_kernel.cu"
OPTIONS = ("--std=c++17", f"-I{ROOT / 'nanograd_gpt' / 'backend' / 'cuda'}")
D, TILE, QUERIES, WARP = 64, 32, 64, 32  # the kernels' own

HostArray: TypeAlias = np.ndarray[Any, Any]
Arrays: TypeAlias = dict[str, Any]


class Launch(NamedTuple):
    """A kernel of the .cu file, its grid, its block, and the names of its arrays."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arrays: tuple[str, ...]


class Step(NamedTuple):
    """A step: its launches for H heads of length T; the bytes and FLOPs of a head that its formulas expect."""

    name: str
    dtype: str
    launches: Callable[[int, int], list[Launch]]
    bytes: Callable[[int], int]
    flops: Callable[[int], int]


def pairs(T: int) -> int:
    """Pairs of a query and a key that it sees."""
    return T * (T + 1) // 2


def pairs_in_tiles(T: int, tile: int) -> int:
    """The same in whole tiles: half of those on the diagonal is computed for nothing.  T is a multiple of the tile."""
    return pairs(T // tile) * tile * tile


def keys_fetched(T: int, queries: int) -> int:
    """Keys that all blocks fetch together: each those that the last of its queries sees."""
    return sum(min(T, first + queries) for first in range(0, T, queries))


def tiles(T: int, tile: int) -> int:
    return -(-T // tile)


STEPS = [
    Step(
        "1. naive",
        "float32",
        lambda H, T: [
            Launch("scores_naive", (tiles(T, 64), T, H), (64,), ("q", "k", "s")),
            Launch("softmax", (T, 1, H), (WARP,), ("s",)),
            Launch("weighted_sum_naive", (T, 1, H), (D,), ("s", "v", "o")),
        ],
        lambda T: 4 * pairs(T) * (2 * D + 1 + 4 + 2 * D) + 4 * T * D,
        lambda T: 4 * D * pairs(T),
    ),
    Step(
        "2. tiled",
        "float32",
        lambda H, T: [
            Launch("scores_tiled", (tiles(T, TILE), tiles(T, TILE), H), (TILE, TILE), ("q", "k", "s")),
            Launch("softmax", (T, 1, H), (WARP,), ("s",)),
            Launch("weighted_sum_tiled", (D // TILE, tiles(T, TILE), H), (TILE, TILE), ("s", "v", "o")),
        ],
        lambda T: 4 * pairs(T) * (1 + 4 + D // TILE) + 4 * pairs_in_tiles(T, TILE) * 3 * D // TILE + 4 * T * D,
        lambda T: 4 * D * pairs_in_tiles(T, TILE),
    ),
    Step(
        "3. online softmax",
        "float32",
        lambda H, T: [Launch("attention_online", (tiles(T, TILE), 1, H), (8 * WARP,), ("q", "k", "v", "o"))],
        lambda T: 4 * pairs_in_tiles(T, TILE) * 2 * D // TILE + 2 * 4 * T * D,
        lambda T: 4 * D * pairs_in_tiles(T, TILE),
    ),
    Step(
        "4. tensor cores",
        "bfloat16",
        lambda H, T: [
            Launch(
                "attention_tensor_cores",
                (tiles(T, QUERIES), 1, H),
                (QUERIES // 16 * WARP,),
                ("q16", "k16", "v16", "o"),
            )
        ],
        lambda T: 2 * 2 * D * keys_fetched(T, QUERIES) + (2 + 4) * T * D,
        lambda T: 4 * D * QUERIES * keys_fetched(T, QUERIES),
    ),
]


# --- running them: the simulator's RawModule is called as CuPy's is


def simulated_module() -> RawModule:
    """The kernels, compiled for the CPU."""
    return RawModule(code=SOURCE.read_text(encoding="utf-8"), options=OPTIONS)


def random_inputs(H: int, T: int) -> dict[str, HostArray]:
    """Queries, keys and values (H, T, D): q, k, v as float32, and the same numbers as the bits of bfloat16, q16 ..."""
    rng = np.random.default_rng(123)
    halves = {name: rng.standard_normal((H, T, D), np.float32).view(np.uint32) >> 16 for name in "qkv"}
    as_floats = {name: (half << 16).view(np.float32) for name, half in halves.items()}
    return as_floats | {f"{name}16": half.astype(np.uint16) for name, half in halves.items()}


def arrays_for(step: Step, inputs: dict[str, HostArray], to_device: Callable[[HostArray], Any] = np.asarray) -> Arrays:
    """The arrays that a step works on; those that it fills are nan before."""
    H, T, _ = inputs["q"].shape
    used = {name for launch in step.launches(H, T) for name in launch.arrays}
    filled = {"s": (H, T, T), "o": (H, T, D)}
    given = {name: to_device(array) for name, array in inputs.items() if name in used}
    return given | {name: to_device(np.full(filled[name], np.nan, np.float32)) for name in used & {*filled}}


def launch(step: Step, module: Any, arrays: Arrays) -> Any:
    """Run a step's kernels; returns the output o (H, T, D)."""
    H, T, _ = arrays["o"].shape
    for kernel, grid, block, names in step.launches(H, T):
        module.get_function(kernel)(grid, block, (*(arrays[name] for name in names), np.int32(T)))
    return arrays["o"]


def count(step: Step, module: RawModule, T: int) -> list[Counts]:
    """Counts of each launch of a step, for one head."""
    with counted_launches() as counts:
        launch(step, module, arrays_for(step, random_inputs(1, T)))
    return counts


def bytes_of(name: str, step: Step, counts: list[Counts]) -> int:
    """Bytes of one array that all launches of a step load and store."""
    both = zip(step.launches(1, 1), counts, strict=True)
    places = [(launch.arrays.index(name), of_launch) for launch, of_launch in both if name in launch.arrays]
    return sum(of_launch.loaded[i] + of_launch.stored[i] for i, of_launch in places)


def formula(inputs: dict[str, HostArray]) -> HostArray:
    """The formula in float64  ->  (H, T, D)"""
    q, k, v = (inputs[name].astype(np.float64) for name in "qkv")
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(D)
    weights = np.exp(np.where(np.tri(q.shape[1], dtype=bool), scores, -np.inf))
    return weights @ v / weights.sum(axis=-1, keepdims=True)


def relative_error(got: HostArray, exact: HostArray) -> float:
    """|got - exact| / |exact|; inf if a number is missing."""
    error = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    return error if np.isfinite(error) else float("inf")
