"""PyTorch's CPU random numbers, bit for bit, so that a run reproduces the book's numbers.

The bits are the Mersenne Twister's (Matsumoto and Nishimura 1998), with its authors' seeding.  The distributions follow
PyTorch's behaviour and sources (aten/src/ATen/core/DistributionsHelper.h, native/cpu/DistributionTemplates.h,
native/Distributions.cpp; torch/utils/data); each method names the function that it reproduces.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, log1p, pi, sin, sqrt
from operator import index
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import real_number, whole_number
from ..errors import InputError
from .generator import ALL, Bools, Floats, Ints, Shape, State, checked_kind, size_of
from .vector_math import f32, log, sin_cos

DropoutStream: TypeAlias = Literal["mt19937", "mcg31"]

DRAW_CHUNK = (
    1 << 18
)  # numbers drawn at once: freeing an array this large raises malloc's threshold for the smaller ones
TRANSFORM_BLOCK = 1 << 15  # numbers transformed at once: a multiple of 16, and cache-sized
MAX_PERMUTATION = (2**32 - 1) // 20  # items; from here on torch.randperm uses another algorithm
KEY_WORDS = 624  # of the Mersenne Twister's state
MCG31_MULTIPLIER, MCG31_MODULUS = 1132489760, 2**31 - 1  # MKL's VSL_BRNG_MCG31


class TorchStream:
    """A random stream with the numbers of PyTorch's generator after torch.manual_seed(seed).

    seed: 0 .. 2^64 - 1, default 0.
    dropout: the build whose dropout masks to reproduce: "mt19937" (default; builds without MKL, and MKL on non-Intel
        processors, which gives the published training log) or "mcg31" (MKL on Intel processors).
    Raises InputError for others.
    """

    def __init__(self, seed: int = 0, dropout: DropoutStream = "mt19937") -> None:
        if dropout not in ("mt19937", "mcg31"):
            raise InputError(f"dropout stream: {dropout!r} is unknown; choose 'mt19937' or 'mcg31'")
        self.dropout, self.part = dropout, ALL
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Reseed, as torch.manual_seed does; only the lower 32 bits of the seed are used."""
        seed = whole_number("seed", seed, 0, 2**64 - 1, "a whole number 0 .. 2^64 - 1")
        self.bits = np.random.MT19937()
        self.bits._legacy_seeding(seed & 0xFFFFFFFF)
        self.next_normal: float | None = None

    # Raw numbers

    def _uint32(self, n: int) -> npt.NDArray[np.uint64]:
        return self.bits.random_raw(n)

    def _uint64(self, n: int) -> npt.NDArray[np.uint64]:
        """n words of 64 bits from two draws each, the first in the upper half."""
        first, second = self._uint32(2 * n).reshape(n, 2).T
        return (first << np.uint64(32)) | second

    def _unit24(self, n: int) -> Floats:
        """n numbers in [0, 1) from the lower 24 bits of one draw each, as for float32 tensors."""
        return (self._uint32(n).astype(np.uint32) & np.uint32(2**24 - 1)).astype(f32) * f32(2**-24)

    def _unit53(self, n: int) -> Floats:
        """n numbers in [0, 1) from the lower 53 bits of two draws each, as for float64 tensors."""
        return (self._uint64(n) & np.uint64(2**53 - 1)) * 2.0**-53

    def _generate(self, n: int, write: Callable[[Floats, Floats], None]) -> Floats:
        """n numbers: write(units, out) transforms a block of uniform numbers in [0, 1)."""
        numbers = np.empty(n, dtype=f32)
        for i in range(0, n, DRAW_CHUNK):
            units = self._unit24(min(DRAW_CHUNK, n - i))
            for j in range(0, len(units), TRANSFORM_BLOCK):
                block = units[j : j + TRANSFORM_BLOCK]
                write(block, numbers[i + j : i + j + len(block)])
        return numbers

    # Distributions

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> Floats:
        """Tensor.uniform_ in float32: the bounds are rounded to float32, the product and sum taken in float64.

        Numbers rounded up to `high` become `low`.
        """
        bottom, top = f32(real_number("low", low)), f32(real_number("high", high))
        width = float(top - bottom)

        def write(units: Floats, out: Floats) -> None:
            out[:] = units.astype(np.float64) * width + float(bottom)
            if (outside := out == top).any():
                out[outside] = bottom

        return self._generate(size_of(shape), write).reshape(shape)

    def normal(self, shape: Shape) -> Floats:
        """Tensor.normal_ in float32: from 16 elements on, the Box-Muller transform of 8 + 8 uniform numbers."""
        n = size_of(shape)
        if n < 16:
            return np.array([self._scalar_normal() for _ in range(n)], dtype=f32).reshape(shape)
        numbers = self._generate(n, box_muller)
        if n % 16:  # the last 16 are drawn again, overwriting some of the previous ones
            box_muller(self._unit24(16), numbers[-16:])
        return numbers.reshape(shape)

    def _scalar_normal(self) -> float:
        """One of a pair computed in float64; the other is kept for the next call."""
        if self.next_normal is not None:
            ready, self.next_normal = self.next_normal, None
            return ready
        u, v = self._unit53(2)
        radius, angle = sqrt(-2 * log1p(-v)), 2 * pi * u
        self.next_normal = radius * sin(angle)
        return radius * cos(angle)

    def keep_mask(self, shape: Shape, rate: float) -> Bools:
        """Tensor.bernoulli_(1 - rate), as in dropout: a part's rows of the whole batch's mask."""
        which, of = self.part
        n, keep = of * size_of(shape), 1 - real_number("rate", rate)
        if self.dropout == "mcg31":
            mask = self._mcg31(n) < keep
        else:
            parts = [self._unit53(min(TRANSFORM_BLOCK, n - i)) < keep for i in range(0, n, TRANSFORM_BLOCK)]
            mask = np.concatenate(parts or [np.empty(0, dtype=bool)])
        return mask.reshape(of, *shape)[which]

    def mask_recipe(self, rate: float, size: int) -> None:
        """None: the Mersenne Twister's numbers come one after the other, so masks are drawn on the host."""

    def _mcg31(self, n: int) -> Floats:
        """n numbers in (0, 1) of MKL's multiplicative congruential generator, seeded by one draw from this stream."""
        x = int(self._uint32(1)[0]) % MCG31_MODULUS or 1
        return mcg31_states(x, n) / MCG31_MODULUS

    def multinomial(self, probabilities: Floats) -> Ints:
        """torch.multinomial with one sample per row: argmax of probability / exponential number."""
        units = self._unit53(probabilities.size).reshape(probabilities.shape)
        exponential = (-np.log1p(-units)).astype(probabilities.dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(probabilities / exponential, nan=0.0).argmax(axis=-1)

    def multinomial_points(self, n: int) -> None:
        """None: PyTorch draws a number for each probability."""

    def randperm(self, n: int) -> Ints:
        """torch.randperm: a Fisher-Yates shuffle from the front.

        Raises InputError for an n from which on PyTorch uses another algorithm.
        """
        n = index(n)
        if n >= MAX_PERMUTATION:
            raise InputError(f"randperm: {n} items are too many for PyTorch's order; use less than {MAX_PERMUTATION}")
        order = list(range(n))
        for i, draw in enumerate(self._uint32(max(0, n - 1)).tolist()):
            j = i + draw % (n - i)
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=np.int64)

    def epoch_order(self, n: int, shuffle: bool) -> Ints:
        """The order of torch's DataLoader, which draws a base seed and, if it shuffles, the seed of a permutation."""
        self._uint64(1)
        if not shuffle:
            return np.arange(n)
        return TorchStream(int(self._uint64(1)[0]) % 2**63).randperm(n)

    # State

    def state(self) -> State:
        twister = self.bits.state["state"]
        return {
            "kind": "torch",
            "dropout": self.dropout,
            "key": [int(word) for word in twister["key"]],
            "pos": int(twister["pos"]),
            "next_normal": self.next_normal,
        }

    def set_state(self, state: Any) -> None:
        state = checked_kind(state, "torch", "a TorchStream's")
        words, kept, dropout = state.get("key"), state.get("next_normal"), state.get("dropout")
        if not isinstance(words, list | tuple) or len(words) != KEY_WORDS or dropout not in ("mt19937", "mcg31"):
            raise InputError(f"random state: it does not hold {KEY_WORDS} words and the kind of dropout; use another")
        words = [whole_number("random state: key", word, 0, 2**32 - 1) for word in words]
        pos = whole_number("random state: pos", state.get("pos"), 0, KEY_WORDS)
        next_normal = None if kept is None else real_number("random state: next_normal", kept)
        key = np.array(words, dtype=np.uint32)
        self.bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": pos}}
        self.dropout, self.next_normal = dropout, next_normal


def box_muller(uniform: Floats, out: Floats) -> None:
    """Transform groups of 16 uniform numbers (8 radii, then 8 angles) into groups of 16 normal ones.

    Numbers after the last whole group are not written.
    """
    whole = len(uniform) // 16 * 16
    u, v = uniform[:whole].reshape(-1, 2, 8).swapaxes(0, 1)
    radius = np.sqrt(f32(-2) * log(f32(1) - u))
    sine, cosine = sin_cos(f32(2 * pi) * v)
    pairs = out[:whole].reshape(-1, 2, 8)
    np.multiply(radius, cosine, out=pairs[:, 0])
    np.multiply(radius, sine, out=pairs[:, 1])
    pairs += f32(0)  # PyTorch adds the mean, which turns -0 into 0


def mcg31_states(x: int, n: int) -> npt.NDArray[np.int64]:
    """x, a x, a^2 x ... modulo m, doubling the computed part in each step by jumping ahead."""
    states = np.empty(max(1, n), dtype=np.int64)
    states[0], done, jump = x, 1, MCG31_MULTIPLIER
    while done < n:
        more = min(done, n - done)
        states[done : done + more] = states[:more] * jump % MCG31_MODULUS  # below 2^62
        done, jump = done + more, jump * jump % MCG31_MODULUS
    return states[:n]
