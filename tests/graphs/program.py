"""A random computation as data: leaves and steps in order, each of which makes one value; and its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanograd_gpt.backend.contract import Array

LAYOUTS = ["plain", "strided", "transposed", "stride 0", "read-only"]
FROZEN = ("detach", "no_grad")  # steps through which no gradient flows

Operations = Mapping[str, Callable[..., Any]]  # by name: (operands, **params) -> a value


@dataclass(frozen=True)
class Leaf:
    """An array of numbers between 0.3 and 1.3 in magnitude; a part of them negative."""

    shape: tuple[int, ...]
    seed: int
    layout: str = "plain"
    requires_grad: bool = True

    def array(self) -> Array:
        return laid_out(numbers(self.shape, self.seed), self.layout)


@dataclass(frozen=True)
class Step:
    """One operation on earlier values."""

    name: str
    operands: tuple[int, ...]
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Root:
    """A value from which backward() starts, and the seed of its weights."""

    value: int
    seed: int


@dataclass(frozen=True)
class Program:
    """Leaves and steps, and the roots; the value of entry i is number i."""

    entries: tuple[Leaf | Step, ...]
    roots: tuple[Root, ...]

    def __str__(self) -> str:
        lines = [f"v{i} = {_text(entry)}" for i, entry in enumerate(self.entries)]
        return "\n".join([*lines, *(f"v{root.value}.backward(weights of seed {root.seed})" for root in self.roots)])

    def leaves(self) -> dict[int, Leaf]:
        return {i: entry for i, entry in enumerate(self.entries) if isinstance(entry, Leaf)}

    def names(self) -> set[str]:
        """The operations in it."""
        return {entry.name for entry in self.entries if isinstance(entry, Step)}


def _text(entry: Leaf | Step) -> str:
    if isinstance(entry, Leaf):
        return f"{'leaf' if entry.requires_grad else 'constant'}{list(entry.shape)}, {entry.layout}, seed {entry.seed}"
    arguments = [*(f"v{i}" for i in entry.operands), *(f"{name}={value!r}" for name, value in entry.params.items())]
    return f"{entry.name}({', '.join(arguments)})"


def numbers(shape: Sequence[int], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.3, 1.3, shape) * rng.choice([-1.0, 1.0], shape))


def laid_out(a: Array, layout: str) -> Array:
    """An array of the same shape in another memory layout; of stride 0, all rows are the first."""
    if layout == "strided":
        wide = np.repeat(a[..., None], 2, axis=-1)
        wide[..., 1] = np.nan
        return wide[..., 0]
    if layout == "transposed":
        return np.array(a, order="F")
    if layout == "stride 0" and a.ndim and len(a):
        return np.broadcast_to(a[:1], a.shape)
    a.flags.writeable = layout != "read-only"
    return a


def evaluated(
    program: Program, operations: Operations, leaves: Mapping[int, Any], frozen: Mapping[int, Any] | None = None
) -> list[Any]:
    """Every value of a program, given its leaves'; values through which no gradient flows may be given as well."""
    values: list[Any] = []
    for i, entry in enumerate(program.entries):
        if isinstance(entry, Leaf):
            values.append(leaves[i])
        elif frozen is not None and i in frozen:
            values.append(frozen[i])
        else:
            values.append(operations[entry.name](*(values[k] for k in entry.operands), **entry.params))
    return values
