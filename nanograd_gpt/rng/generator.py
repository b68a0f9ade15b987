"""The default generator, counter-based: its state is (seed, stream, number of calls).

The bits are NumPy's Philox 4x64-10 (Salmon et al. 2011), keyed by seed and stream, with the number of the call in the
counter's third word.  The distributions are implemented here, so that results do not depend on NumPy's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, prod
from operator import index
from secrets import randbits
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import real_number, whole_number
from ..errors import InputError
from ..mask_recipe import MaskRecipe

Shape: TypeAlias = tuple[int, ...]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
State: TypeAlias = dict[str, Any]
Part: TypeAlias = tuple[int, int]  # which, of how many

ALL: Part = (0, 1)
WORD, BLOCK = 4, 16  # elements of a mask: 16 bits each, of 64 and of 256


def size_of(shape: Shape) -> int:
    """The number of elements of an array of this shape; NumPy integers are allowed."""
    return prod(map(index, shape))


class RandomStream(Protocol):
    """The interface of a random stream for models, loaders and samplers.  All arrays are NumPy's.

    `part` is (which, of how many): masks are those of one of so many equal parts of a batch, and count as the whole
    batch's, so that streams with different parts stay equal.  All other numbers are the same for each part.
    """

    part: Part

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> Floats:
        """Uniform float32 numbers in [low, high)."""
        ...

    def normal(self, shape: Shape) -> Floats:
        """Standard normal float32 numbers."""
        ...

    def keep_mask(self, shape: Shape, rate: float) -> Bools:
        """Dropout's mask: True, for keep, with probability 1 - rate."""
        ...

    def mask_recipe(self, rate: float, size: int) -> MaskRecipe | None:
        """The place of the mask of `size` elements that keep_mask would draw, which counts as drawn.

        None, and nothing is drawn, if the mask has no such place.
        """
        ...

    def multinomial(self, probabilities: Floats) -> Ints:
        """probabilities (B, V), rows summing to 1  ->  one index sampled per row (B,)"""
        ...

    def multinomial_points(self, n: int) -> Floats | None:
        """The numbers (n,) that multinomial would draw for n rows, which count as drawn: index_at is its formula.

        None if it would draw others, such as one for each probability; then none is drawn.
        """
        ...

    def epoch_order(self, n: int, shuffle: bool) -> Ints:
        """The order of n items in a loader's next epoch."""
        ...

    def state(self) -> State:
        """The state, which determines all later numbers, as JSON can encode it."""
        ...

    def set_state(self, state: Any) -> None:
        """Restore a state.  Raises InputError, and changes nothing, for what is not a state of this kind of stream."""
        ...


def checked_stream(rng: RandomStream) -> RandomStream:
    """Return the stream.  Raises TypeError for anything else, such as a seed or another library's generator."""
    if not hasattr(rng, "epoch_order"):
        kind = type(rng)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}'s {kind.__name__}"
        raise TypeError(f"rng is {name}, expected nanograd_gpt's Generator or TorchStream, such as ng.Generator(123)")
    return rng


class Generator:
    """The default random stream.

    seed, stream: integers in 0 .. 2^64 - 1, default 0.  Different streams of one seed are independent.
    Raises InputError for others.
    """

    def __init__(self, seed: int = 0, stream: int = 0) -> None:
        allowed = 0, 2**64 - 1, "a whole number 0 .. 2^64 - 1"
        self.seed, self.stream = whole_number("seed", seed, *allowed), whole_number("stream", stream, *allowed)
        self.calls, self.part = 0, ALL

    @classmethod
    def unseeded(cls) -> Generator:
        """A stream seeded from the operating system, as numpy.random.default_rng() without a seed."""
        return cls(randbits(64))

    def _bits(self, n: int, first_block: int = 0) -> npt.NDArray[np.uint64]:
        """n words of 64 random bits, from a block of 4 words on; each call has 2^130 of its own."""
        source = np.random.Philox(
            key=np.array([self.seed, self.stream], dtype=np.uint64),
            counter=np.array([first_block, 0, self.calls, 0], dtype=np.uint64),
        )
        self.calls += 1
        return source.random_raw(n)

    def _unit(self, n: int) -> Floats:
        """n numbers in [0, 1), multiples of 2^-53."""
        return (self._bits(n) >> np.uint64(11)) * 2.0**-53

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0) -> Floats:
        low, high = real_number("low", low), real_number("high", high)
        numbers = (self._bits(size_of(shape)) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        numbers *= np.float32(high - low)
        numbers += np.float32(low)
        last = np.nextafter(np.float32(high), np.float32(low))  # the sum may have been rounded up to high
        np.minimum(numbers, last, out=numbers)
        return numbers.reshape(shape)

    def normal(self, shape: Shape) -> Floats:
        """Standard normal numbers by the Box-Muller transform (1958) of pairs of uniform ones."""
        n = size_of(shape)
        u, v = self._unit(2 * ((n + 1) // 2)).reshape(2, -1)
        radius, angle = np.sqrt(-2 * np.log1p(-u)), 2 * pi * v
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return pairs[:n].astype(np.float32).reshape(shape)

    def keep_mask(self, shape: Shape, rate: float) -> Bools:
        """Dropout's mask, from 16 bits per element: the rate is exact to within 2^-17."""
        n = size_of(shape)
        block, skipped = divmod(self.part[0] * n, BLOCK)
        sixteen = self._bits(-(-(skipped + n) // WORD), block).view(np.uint16)[skipped : skipped + n]
        return sixteen.reshape(shape) >= _threshold(rate)

    def mask_recipe(self, rate: float, size: int) -> MaskRecipe | None:
        block, skipped = divmod(self.part[0] * size, BLOCK)
        if skipped:
            return None
        self.calls += 1
        return MaskRecipe(self.seed, self.stream, self.calls - 1, block, _threshold(rate))

    def multinomial(self, probabilities: Floats) -> Ints:
        """Samples by inverting the cumulative distribution, in float64."""
        return index_at(self._unit(len(probabilities)), probabilities)

    def multinomial_points(self, n: int) -> Floats:
        return self._unit(n)

    def epoch_order(self, n: int, shuffle: bool) -> Ints:
        return np.argsort(self._bits(n), kind="stable") if shuffle else np.arange(n)

    def state(self) -> State:
        return {"kind": "philox", "seed": self.seed, "stream": self.stream, "calls": self.calls}

    def set_state(self, state: Any) -> None:
        state = checked_kind(state, "philox", "a Generator's")
        numbers = [
            whole_number(f"random state: {name}", state.get(name), 0, 2**64 - 1) for name in ("seed", "stream", "calls")
        ]
        self.seed, self.stream, self.calls = numbers


def checked_kind(state: Any, kind: str, whose: str) -> Mapping[str, Any]:
    """Return a stream's state.  Raises InputError for that of another kind, and for anything else."""
    found = state.get("kind") if isinstance(state, Mapping) else None
    if found != kind:
        raise InputError(f"random state: kind {found!r} is not {whose}; use one of kind {kind!r}")
    return dict(state)


def index_at(points: Floats, probabilities: Floats) -> Ints:
    """points (B,) in [0, 1), probabilities (B, V)  ->  the index in whose share of the row's sum the point lies (B,)

    NumPy's arrays, or CuPy's.  An index of probability 0 is never returned: sums that a GPU adds in parallel may fall
    by a rounding error from one index to the next.
    """
    edges = probabilities.cumsum(axis=-1, dtype=np.float64)
    return ((edges > points[:, None] * edges[:, -1:]) & (probabilities > 0)).argmax(axis=-1)


def _threshold(rate: float) -> int:
    """The number of values of 16 bits, out of 2^16, that dropout zeroes."""
    return round(real_number("rate", rate) * 2**16)
