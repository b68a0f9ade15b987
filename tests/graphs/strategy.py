"""A Hypothesis strategy that draws programs: shapes, layouts, operations, shared values, dead branches, roots.

Hypothesis chooses a seed and a number of steps; all else is drawn evenly from the seed.  Its own draws prefer small and
repeated values, and found half of the planted faults that these find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.tensor import Tensor

from .operations import OURS
from .program import LAYOUTS, Leaf, Program, Root, Step

MAX_STEPS, MAX_AXES = 24, 3
MAX_SIZE = 64  # elements of a value that is used again
TAME = 10.0  # the largest magnitude of such a value
GAP = 1e-6  # between two values of which the larger is taken; a rounding error must not exchange them

LENGTHS = [1, 2, 3, 4, 2, 3, 0]


class Builder:
    """A program while it is drawn, with the values it has so far."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.entries: list[Leaf | Step] = []
        self.arrays: list[Array] = []
        self.usable: list[int] = []

    def seed(self) -> int:
        return self.random.randrange(1000)

    def coin(self) -> bool:
        return self.random.random() < 0.5

    def leaf(self, shape: Sequence[int]) -> int:
        layout, wanted = self.random.choice(LAYOUTS), self.random.random() < 0.8
        leaf = Leaf(tuple(shape), self.seed(), layout, wanted)
        self.arrays.append(leaf.array())
        return self._added(leaf)

    def step(self, name: str, *operands: int, **params: Any) -> int:
        """Append a step; a large value is used through tanh, one of many elements not at all."""
        with no_grad():
            value = OURS[name](*(Tensor(self.arrays[i]) for i in operands), **params)
        self.arrays.append(value.data)
        i = self._added(Step(name, operands, params))
        if np.abs(value.data).max(initial=0.0) > TAME:
            self.usable.remove(i)
            return self.step("tanh", i)
        if value.size > MAX_SIZE:
            self.usable.remove(i)
        return i

    def _added(self, entry: Leaf | Step) -> int:
        self.entries.append(entry)
        self.usable.append(len(self.entries) - 1)
        return self.usable[-1]

    def shape(self, i: int) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.arrays[i].shape
        return shape

    def pick(self, suits: Callable[[Array], bool] = lambda a: True) -> int | None:
        """A value that suits, the newest first; None if there is none."""
        found = [i for i in reversed(self.usable) if suits(self.arrays[i])]
        if found and self.coin():
            return found[0]
        return self.random.choice(found) if found else None

    def of_shape(self, *shape: int) -> int:
        """A value of this shape, or a new leaf."""
        found = [i for i in reversed(self.usable) if self.shape(i) == shape]
        return self.random.choice(found) if found and self.coin() else self.leaf(shape)

    def ints(self, below: int, *shape: int) -> Array:
        return np.random.default_rng(self.seed()).integers(0, below, shape)

    def mask(self, shape: Sequence[int]) -> Array:
        return np.asarray(np.random.default_rng(self.seed()).random(shape) < 0.6)


def any_size(a: Array) -> bool:
    return True


def not_empty(a: Array) -> bool:
    return a.size > 0


def has_axes(a: Array) -> bool:
    return a.ndim > 0


def has_rows(a: Array) -> bool:
    return a.ndim > 0 and a.size > 0


# Each adds a step to a program, or returns None where no value suits


def unary(b: Builder) -> int | None:
    name = b.random.choice(["neg", "exp", "log", "sqrt", "tanh", "gelu", "detach", "no_grad"])
    x = b.pick()
    return None if x is None else b.step(name, x)


def along_an_axis(b: Builder) -> int | None:
    x = b.pick(has_axes)
    if x is None:
        return None
    axis = b.random.randint(-len(b.shape(x)), len(b.shape(x)) - 1)
    return b.step(b.random.choice(["softmax", "log_softmax"]), x, axis=axis)


def binary(b: Builder) -> int | None:
    name = b.random.choice(["add", "mul", "sub", "div", "pow", "where", "maximum", "minimum"])
    x = b.pick()
    if x is None:
        return None
    y = broadcasting_with(b, x)
    if b.coin():
        x, y = y, x
    if name == "where":
        shape = np.broadcast_shapes(b.shape(x), b.shape(y))
        return b.step(name, x, y, mask=b.mask(shape[b.random.randint(0, len(shape)) :]))
    difference = np.abs(b.arrays[x] - b.arrays[y])
    if name in ("maximum", "minimum") and x != y and difference.min(initial=1.0) < GAP:
        name = "sub"
    return b.step(name, x, y)


def broadcasting_with(b: Builder, x: int) -> int:
    """A value, x perhaps, that broadcasts with x; or a new leaf of some of its axes, of which some are 1."""
    if b.coin():
        found = [i for i in reversed(b.usable) if broadcast(b.shape(x), b.shape(i))]
        return b.random.choice(found)
    kept = b.shape(x)[b.random.randint(0, len(b.shape(x))) :]
    return b.leaf([n if b.coin() else 1 for n in kept])


def broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(m == n or 1 in (m, n) for m, n in pairs)


def with_numbers(b: Builder) -> int | None:
    x = b.pick()
    if x is None:
        return None
    if b.coin():
        return b.step("masked_fill", x, mask=b.mask(b.shape(x)), value=b.random.choice([0, 1.5, -2.0]))
    before, after = (b.random.choice([2, 0.5, -3.0, 0]) for _ in range(2))
    return b.step("number", x, before=before, after=after, power=b.random.choice([2, 3, 1]))


def reduction(b: Builder) -> int | None:
    name = b.random.choice(["sum", "mean", "max", "logsumexp", "var"])
    x = b.pick(any_size if name == "sum" else not_empty)
    if x is None:
        return None
    ndim = len(b.shape(x))
    axis: Any = None
    if ndim and b.coin():
        axis = tuple(sorted(b.random.sample(range(ndim), b.random.randint(1, ndim))))
        axis = axis[0] - ndim if len(axis) == 1 and b.coin() else axis
    if name == "max" and tied(b.arrays[x], axis):
        name = "mean"
    return b.step(name, x, axis=axis, keepdims=b.coin())


def tied(a: Array, axis: Any) -> bool:
    """Whether a maximum is nearly another element's too."""
    near = a >= a.max(axis=axis, keepdims=True) - GAP
    return bool((near.sum(axis=axis) > 1).any())


def reshaped(b: Builder) -> int | None:
    x = b.pick()
    if x is None:
        return None
    shape = b.shape(x)
    kinds = ["permuted", "flat", "one more axis", "broadcast"]
    kind = b.random.choice(kinds if shape else kinds[1:])
    if kind == "permuted":
        axes = b.random.sample(range(len(shape)), len(shape))
        return b.step("transpose", x, axes=tuple(a - len(shape) * b.random.randint(0, 1) for a in axes))
    if kind == "flat":
        return b.step("reshape", x, shape=(prod(shape),))
    place = b.random.randint(0, len(shape))
    if kind == "one more axis":
        return b.step("reshape", x, shape=(*shape[:place], 1, *shape[place:]))
    wide = [b.random.choice(LENGTHS) if n == 1 else n for n in shape]
    return b.step("broadcast_to", x, shape=(b.random.choice(LENGTHS), *wide))


def indexed(b: Builder) -> int | None:
    x = b.pick(has_rows)
    if x is None:
        return None
    shape = b.shape(x)
    kind = b.random.choice(["number", "slice", "backwards", "repeated", "mask", "new axis", "pairs"])
    n = b.random.randint(1, 4)
    index: Any = {
        "number": lambda: b.random.randint(-shape[0], shape[0] - 1),
        "slice": lambda: (..., slice(b.random.randint(0, 1), None)),
        "backwards": lambda: (slice(None, None, -b.random.randint(1, 2)), None),
        "repeated": lambda: b.ints(shape[0], n),
        "mask": lambda: b.mask(shape),
        "new axis": lambda: (None, ..., 0),
        "pairs": lambda: tuple(b.ints(length, n) for length in shape[:2]),
    }[kind]()
    return b.step("index", x, index=index)


def joined(b: Builder) -> int | None:
    x = b.pick(has_axes)
    if x is None:
        return None
    shape = b.shape(x)
    axis = b.random.randint(-len(shape), len(shape) - 1)
    kind = b.random.choice(["concatenate", "stack", "split", "rows"])
    if kind == "split" and shape[axis] and shape[axis] % 2 == 0:
        return b.step("split", x, axis=axis)
    if kind == "rows" and shape[0]:
        return b.step("rows", x)
    others = [b.of_shape(*shape) for _ in range(b.random.randint(0, 2))]
    return b.step("stack" if kind == "stack" else "concatenate", x, *others, axis=axis)


def product(b: Builder) -> int | None:
    x = b.pick(has_axes)
    if x is None:
        return None
    width, out = b.shape(x)[-1], b.random.randint(1, 3)
    kind = b.random.choice(["matmul", "from the left", "vector", "linear", "linear_gelu", "packed_linear"])
    if kind == "vector":
        return b.step("matmul", x, b.of_shape(width))
    if kind == "from the left":
        rows = b.shape(x)[-2] if len(b.shape(x)) > 1 else width
        return b.step("matmul", b.of_shape(out, rows), x)
    if kind == "matmul":
        return b.step("matmul", x, b.of_shape(width, out))
    if kind == "packed_linear":
        return b.step(kind, x, *[b.of_shape(out, width) for _ in range(b.random.randint(1, 3))])
    return b.step(kind, x, b.of_shape(out, width), *([b.of_shape(out)] if b.coin() else []))


def fused(b: Builder) -> int | None:
    kind = b.random.choice(["layer_norm", "attention", "embedding", "dropout", "dropout_add"])
    if kind == "attention":
        B, T, C = b.random.choice([(1, 3, 2), (2, 2, 2), (1, 1, 4)])
        return b.step(kind, b.of_shape(B, T, 3 * C), n_heads=b.random.randint(1, 2))
    if kind == "embedding":
        weight = b.of_shape(b.random.randint(1, 3), b.random.randint(1, 3))
        return b.step(kind, weight, ids=b.ints(b.shape(weight)[0], *b.random.choice([(), (3,), (2, 2), (0,)])))
    x = b.pick(has_axes if kind == "layer_norm" else any_size)
    if x is None:
        return None
    if kind == "layer_norm":
        return b.step(kind, x, *[b.of_shape(b.shape(x)[-1]) for _ in range(2)])
    residual = [b.of_shape(*b.shape(x))] if kind == "dropout_add" else []
    return b.step(kind, x, *residual, keep=b.mask(b.shape(x)))


def residual(b: Builder) -> int | None:
    """Two results added, one of which has gone into another branch before."""
    x = b.pick(not_empty)
    if x is None:
        return None
    x, other = b.step("number", x, before=1, after=0.5, power=2), b.step("neg", x)
    if b.coin():
        x, other = other, x
    branch = b.step(b.random.choice(["tanh", "gelu", "log"]), x)
    total = b.step("add", x, other)
    return b.step(b.random.choice(["add", "mul"]), *b.random.sample([branch, total], 2))


def loss(b: Builder) -> int | None:
    x = b.pick(lambda a: a.ndim == 2 and a.size > 0)
    if x is None:
        return None
    N, width = b.shape(x)
    if b.coin():
        return b.step("cross_entropy", x, targets=b.ints(width, N))
    V = b.random.randint(1, 4)
    return b.step("linear_cross_entropy", x, b.of_shape(V, width), targets=b.ints(V, N))


MAKERS = [
    binary,
    unary,
    reshaped,
    reduction,
    product,
    indexed,
    joined,
    fused,
    along_an_axis,
    with_numbers,
    loss,
    residual,
]


def program_of(seed: int, steps: int) -> Program:
    """A program of so many steps; with the same seed and fewer steps, it is the beginning of it.

    Most of the values that no step uses are roots.
    """
    b = Builder(seed)
    for _ in range(b.random.randint(1, 3)):
        b.leaf([b.random.choice(LENGTHS) for _ in range(b.random.randint(0, MAX_AXES))])
    for _ in range(steps):
        b.random.choice(MAKERS)(b)
    used = {i for entry in b.entries if isinstance(entry, Step) for i in entry.operands}
    roots = [i for i in b.usable if i not in used and isinstance(b.entries[i], Step) and b.random.random() < 0.8]
    roots += b.random.choices(b.usable, k=b.random.randint(not roots, 2))
    b.random.shuffle(roots)
    return Program(tuple(b.entries), tuple(Root(i, b.seed()) for i in roots))


def programs() -> st.SearchStrategy[Program]:
    """Random programs; a smaller one with the same fault is the beginning of a larger."""
    return st.builds(program_of, st.integers(0, 2**32 - 1), st.sampled_from(range(1, MAX_STEPS + 1)))
