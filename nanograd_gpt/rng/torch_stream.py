"""PyTorch's random numbers on the CPU, bit for bit, so that a run prints the numbers that the book prints.

The bits are the Mersenne Twister's (Matsumoto and Nishimura 1998), seeded as its authors do.  What PyTorch makes of
them was read off its behaviour and its sources (aten/src/ATen/core/DistributionsHelper.h, native/cpu/
DistributionTemplates.h, native/Distributions.cpp; torch/utils/data): each method says which rule it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import cos, log1p, pi, prod, sin, sqrt
from os import cpu_count
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .generator import Bools, Floats, Ints, Shape, State
from .vector_math import f32, log, sin_cos

DropoutStream: TypeAlias = Literal["mt19937", "mcg31"]

BLOCK = 1 << 15  # numbers at a time: a multiple of 16, and small enough for the cache
MCG31_MULTIPLIER, MCG31_MODULUS = 1132489760, 2**31 - 1  # MKL's VSL_BRNG_MCG31


class TorchStream:
    """A generator that yields what PyTorch's yields after torch.manual_seed(seed).

    `dropout` says which build's dropout masks: "mt19937" (the plain build, and MKL's on processors that are not
    Intel's: it gives the published training log), or "mcg31" (MKL's on Intel processors).
    Raises InputError for a seed outside 0 .. 2^64 - 1, and for another `dropout`.
    """

    def __init__(self, seed: int = 0, dropout: DropoutStream = "mt19937") -> None:
        if dropout not in ("mt19937", "mcg31"):
            raise InputError(f"dropout stream: {dropout!r} is unknown; choose 'mt19937' or 'mcg31'")
        self.dropout = dropout
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Start over, as torch.manual_seed does; only the seed's lower 32 bits count."""
        if not 0 <= seed < 2**64:
            raise InputError(f"seed: {seed} is out of range; choose 0 .. 2^64 - 1")
        self.bits = np.random.MT19937()
        self.bits._legacy_seeding(seed & 0xFFFFFFFF)
        self.next_normal: float | None = None

    # Raw numbers

    def _uint32(self, n: int) -> npt.NDArray[np.uint64]:
        return self.bits.random_raw(n)

    def _uint64(self, n: int) -> npt.NDArray[np.uint64]:
        """Two draws each, the first one on top"""
        first, second = self._uint32(2 * n).reshape(n, 2).T
        return (first << np.uint64(32)) | second

    def _unit24(self, n: int) -> Floats:
        """n numbers in [0, 1) from the lower 24 bits of one draw each: what float32 tensors get"""
        return (self._uint32(n) & np.uint64(2**24 - 1)) * 2.0**-24

    def _unit53(self, n: int) -> Floats:
        """n numbers in [0, 1) from the lower 53 bits of two draws each: what float64 gets"""
        return (self._uint64(n) & np.uint64(2**53 - 1)) * 2.0**-53

    def _filled(self, n: int, transform: Callable[[Floats], Floats]) -> Floats:
        """n numbers, drawn in order block by block, and transformed by several threads meanwhile."""
        out = np.empty(n, dtype=f32)

        def fill(part: slice, units: Floats) -> None:
            out[part] = transform(units)

        with ThreadPoolExecutor(cpu_count()) as pool:
            parts = [slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)]
            pending = []
            for part in parts:
                pending.append(pool.submit(fill, part, self._unit24(part.stop - part.start)))
                if len(pending) > 64:
                    pending.pop(0).result()
            for job in pending:
                job.result()
        return out

    # What tensors are filled with

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> Floats:
        """Tensor.uniform_ in float32: the bounds are rounded to float32, the product and sum taken in float64."""
        bottom, width = float(f32(low)), float(f32(high) - f32(low))
        return self._filled(prod(shape), lambda units: (units * width + bottom).astype(f32)).reshape(shape)

    def normal(self, shape: Shape) -> Floats:
        """Tensor.normal_ in float32: from 16 elements on, Box and Muller's transform of 8 + 8 uniform numbers."""
        n = prod(shape)
        if n < 16:
            return np.array([self._one_normal() for _ in range(n)], dtype=f32).reshape(shape)
        numbers = self._filled(n, _uniform_or_normal)
        if n % 16:  # the last 16 are drawn anew, and reach back over numbers already there
            numbers[-16:] = box_muller(self._unit24(16).astype(f32))
        return numbers.reshape(shape)

    def _one_normal(self) -> float:
        """One of a pair made in float64; the other waits for the next call."""
        if self.next_normal is not None:
            ready, self.next_normal = self.next_normal, None
            return ready
        u, v = self._unit53(2)
        radius, angle = sqrt(-2 * log1p(-v)), 2 * pi * u
        self.next_normal = radius * sin(angle)
        return radius * cos(angle)

    def keep_mask(self, shape: Shape, rate: float) -> Bools:
        """Tensor.bernoulli_(1 - rate), as dropout calls it."""
        n, keep = prod(shape), 1 - rate
        if self.dropout == "mcg31":
            return (self._mcg31(n) < keep).reshape(shape)
        parts = [self._unit53(min(BLOCK, n - i)) < keep for i in range(0, n, BLOCK)]
        return np.concatenate(parts or [np.empty(0, dtype=bool)]).reshape(shape)

    def _mcg31(self, n: int) -> Floats:
        """n numbers in (0, 1) of MKL's multiplicative congruential generator, seeded by one draw of ours."""
        x = int(self._uint32(1)[0]) % MCG31_MODULUS or 1
        return mcg31_states(x, n) / MCG31_MODULUS

    def multinomial(self, probabilities: Floats) -> Ints:
        """torch.multinomial of one sample a row: the largest of probability / exponential number."""
        units = self._unit53(probabilities.size).reshape(probabilities.shape)
        exponential = (-np.log1p(-units)).astype(f32)
        with np.errstate(divide="ignore", invalid="ignore"):
            winners: Ints = np.nan_to_num(probabilities / exponential, nan=0.0).argmax(axis=-1)
        return winners

    def randperm(self, n: int) -> Ints:
        """torch.randperm: from the front, swap each with one of those from it on."""
        order = np.arange(n)
        for i, draw in enumerate(self._uint32(max(0, n - 1)).tolist()):
            j = i + draw % (n - i)
            order[i], order[j] = order[j], order[i]
        return order

    def epoch_order(self, n: int, shuffle: bool) -> Ints:
        """What an iterator of torch's DataLoader draws: a base seed, and if shuffled the seed of a permutation."""
        self._uint64(1)
        if not shuffle:
            return np.arange(n)
        return TorchStream(int(self._uint64(1)[0]) % 2**63).randperm(n)

    # Its state

    def state(self) -> State:
        twister = self.bits.state["state"]
        return {
            "kind": "torch",
            "dropout": self.dropout,
            "key": [int(word) for word in twister["key"]],
            "pos": int(twister["pos"]),
            "next_normal": self.next_normal,
        }

    def set_state(self, state: State) -> None:
        if state.get("kind") != "torch":
            raise InputError(f"random state: kind {state.get('kind')!r} is not a TorchStream's ('torch')")
        key = np.array(state["key"], dtype=np.uint32)
        self.bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": state["pos"]}}
        self.dropout, self.next_normal = state["dropout"], state["next_normal"]


def _uniform_or_normal(units: Floats) -> Floats:
    """Whole groups of 16 become normal; a rest stays as it is, for normal() to replace."""
    numbers = units.astype(f32)
    whole = len(numbers) // 16 * 16
    numbers[:whole] = box_muller(numbers[:whole])
    return numbers


def box_muller(uniform: Floats) -> Floats:
    """Groups of 16 uniform numbers  ->  groups of 16 normal ones: the first 8 are radii, the last 8 angles."""
    u, v = uniform.reshape(-1, 2, 8).swapaxes(0, 1)
    radius = np.sqrt(f32(-2) * log(f32(1) - u))
    sine, cosine = sin_cos(f32(2 * pi) * v)
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)


def mcg31_states(x: int, n: int) -> npt.NDArray[np.int64]:
    """x, a x, a^2 x ... modulo m: doubling what is there, by jumping ahead as far as there is."""
    states = np.empty(max(1, n), dtype=np.int64)
    states[0], done, jump = x, 1, MCG31_MULTIPLIER
    while done < n:
        more = min(done, n - done)
        states[done : done + more] = states[:more] * jump % MCG31_MODULUS  # below 2^62
        done, jump = done + more, jump * jump % MCG31_MODULUS
    return states[:n]
