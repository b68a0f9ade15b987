"""Checks of a random program: gradients by complex step and by PyTorch, accumulation, and who may write to what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Leaf as Node
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.gradcheck.numeric import complex_step, replaced
from nanograd_gpt.tensor import Tensor

from .operations import OURS, ancestors
from .program import FROZEN, Program, Step, evaluated, numbers

TOLERANCE = 1e-12  # of the gradient's norm, or of the weights' if that is larger
SAME = 1e-13  # between two ways to accumulate, likewise
FEW = 12  # elements, each of which is differentiated by itself

Gradients = dict[int, Array | None]


@dataclass
class Tally:
    """Counts and worst errors over many programs."""

    programs: int = 0
    steps: int = 0
    names: set[str] = field(default_factory=set)
    twice_freed: int = 0  # programs whose second root needs what the first has freed
    worst: float = 0.0  # error against the complex step
    worst_pytorch: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.programs:,} graphs of {self.steps:,} steps of {len(self.names)} kinds, {self.twice_freed:,} with a "
            f"root in a freed graph; worst relative error {self.worst:.1e} by complex step, "
            f"{self.worst_pytorch:.1e} by PyTorch"
        )


class Checked:
    """A program with its leaves as Tensors, and the weights of its roots."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.leaves = {i: Tensor(leaf.array(), leaf.requires_grad) for i, leaf in program.leaves().items()}
        self.arrays = {i: t.data.copy() for i, t in self.leaves.items()}
        self.values = evaluated(program, OURS, self.leaves)
        self.weights = [numbers(self.values[root.value].shape, root.seed) for root in program.roots]
        self.scale = max(1.0, sum(map(norm, self.weights)))

    # Ways to get the gradients

    def root_by_root(self) -> Gradients:
        """A forward pass for each root; the gradients add up in the leaves."""
        self._reset()
        for root, weights in zip(self.program.roots, self.weights, strict=True):
            self.backward(evaluated(self.program, OURS, self.leaves)[root.value], weights)
        return self._gradients()

    def together(self) -> Gradients:
        """One scalar of all roots."""
        self._reset()
        values = evaluated(self.program, OURS, self.leaves)
        total: Any = Tensor(0.0)
        for root, weights in zip(self.program.roots, self.weights, strict=True):
            total = total + (values[root.value] * weights).sum()
        self.backward(total, np.ones(()))
        return self._gradients()

    def in_buffers(self) -> Gradients:
        """Into memory that belongs to an optimizer, with nan in it, and once more on top."""
        self._reset()
        for t in self.leaves.values():
            if isinstance(t.node, Node):
                t.node.buffer = np.full(t.shape, np.nan)
        for _ in range(2):
            for root, weights in zip(self.program.roots, self.weights, strict=True):
                self.backward(evaluated(self.program, OURS, self.leaves)[root.value], weights)
        for t in self.leaves.values():
            if isinstance(t.node, Node):
                assert t.grad is None or t.grad is t.node.buffer
                t.node.buffer = None
        return {i: None if g is None else g / 2 for i, g in self._gradients().items()}

    def from_one_graph(self) -> bool:
        """Roots one after the other in one graph: an error if one needs what an earlier one freed.

        Returns whether there was one.
        """
        self._reset()
        values = evaluated(self.program, OURS, self.leaves)
        reached = [ancestors(values[root.value].node) for root in self.program.roots]
        freed: set[int] = set()
        for root, weights, nodes in zip(self.program.roots, self.weights, reached, strict=True):
            if freed & nodes:
                said = "nothing"
                try:
                    self.backward(values[root.value], weights)
                except RuntimeError as error:
                    said = str(error)
                assert "backward was called before and freed the graph" in said, f"v{root.value}, freed, said {said}"
                return True
            self.backward(values[root.value], weights)
            freed |= nodes
        self.check_same(self._gradients(), "from one graph")
        return False

    def by_complex_step(self) -> Iterator[tuple[str, float, float]]:
        """Derivatives along directions: a place, by backward, by complex step."""
        gradients = self.root_by_root()
        names = {i: e.name for i, e in enumerate(self.program.entries) if isinstance(e, Step)}
        frozen = {i: self.values[i].detach() for i, name in names.items() if name in FROZEN}
        rng = np.random.default_rng(0)

        def total() -> Array:
            with no_grad():
                values = evaluated(self.program, OURS, self.leaves, frozen)
            pairs = zip(self.program.roots, self.weights, strict=True)
            return np.asarray(sum((values[root.value].data * weights).sum() for root, weights in pairs))

        wanted = {i: t for i, t in self.leaves.items() if t.requires_grad and t.size}
        with replaced(list(self.leaves.values()), np.complex128):
            for i, t in wanted.items():
                g = gradients[i]
                g = np.zeros(t.shape) if g is None else g
                directions = [rng.choice([-1.0, 1.0], t.shape)]
                if t.size <= FEW:
                    directions += [unit.reshape(t.shape) for unit in np.eye(t.size)]
                for v in directions:
                    yield f"v{i} along {v.tolist()}", float((g * v).sum()), float(complex_step(total, t, v))

    # Parts of these

    def _reset(self) -> None:
        for t in self.leaves.values():
            t.zero_grad()

    def backward(self, root: Tensor, weights: Array) -> None:
        if root.requires_grad:
            before = weights.copy()
            root.backward(weights)
            assert np.array_equal(weights, before), "the weights were written to"

    def _gradients(self) -> Gradients:
        for i, t in self.leaves.items():
            assert np.array_equal(t.data, self.arrays[i]), f"v{i}: the leaf was written to"
            if t.grad is not None:
                assert t.requires_grad, f"v{i}: a gradient that nobody asked for"
                assert (t.grad.shape, t.grad.dtype) == (t.shape, t.dtype), f"v{i}: {t.grad.shape} {t.grad.dtype}"
        return {i: None if t.grad is None else t.grad.copy() for i, t in self.leaves.items()}

    def check_same(self, gradients: Gradients, how: str) -> None:
        expected = self.root_by_root()
        for i, g in gradients.items():
            other = expected[i]
            if g is None or other is None:
                assert g is other is None or not np.any(g if other is None else other), f"v{i}, {how}: {g}, {other}"
            else:
                assert norm(g - other) <= SAME * max(self.scale, norm(other)), f"v{i}, {how}: {g}, {other}"


def norm(a: Array) -> float:
    return float(np.linalg.norm(np.ravel(a)))


def check(program: Program, tally: Tally, pytorch: Callable[[Program], Any] | None = None) -> None:
    """Raise AssertionError, with the program, if anything is wrong with its gradients.

    pytorch: computes values and gradients of a program, for comparison.
    """
    try:
        checked = Checked(program)
        before = [value.data.copy() for value in checked.values]
        tally.twice_freed += checked.from_one_graph()
        check_results_stay(checked, before)
        check_own_memory(checked)
        for place, by_backward, by_numbers in checked.by_complex_step():
            scale = max(checked.scale, abs(by_numbers))
            error = abs(by_backward - by_numbers) / scale
            assert error <= TOLERANCE, f"{place}: {by_backward} by backward, {by_numbers} by complex step"
            tally.worst = max(tally.worst, error)
        checked.check_same(checked.together(), "together")
        checked.check_same(checked.in_buffers(), "in buffers")
        if pytorch is not None:
            tally.worst_pytorch = max(tally.worst_pytorch, compared(checked, *pytorch(program)))
    except Exception as error:
        error.add_note(f"in the program\n{program}")
        raise
    tally.programs += 1
    tally.steps += sum(isinstance(entry, Step) for entry in program.entries)
    tally.names |= program.names()


def check_results_stay(checked: Checked, before: list[Array]) -> None:
    """No backward pass writes to a result."""
    values = evaluated(checked.program, OURS, checked.leaves)
    for root, weights in zip(checked.program.roots, checked.weights, strict=True):
        try:
            checked.backward(values[root.value], weights)
        except RuntimeError:  # its graph was freed: see from_one_graph
            break
    for i, (value, then) in enumerate(zip(values, before, strict=True)):
        assert np.array_equal(value.data, then), f"v{i}: the result was written to"


def check_own_memory(checked: Checked) -> None:
    """Each leaf's gradient is in memory of its own."""
    checked.root_by_root()
    owners = {f"gradient of v{i}": t.grad for i, t in checked.leaves.items() if t.grad is not None}
    for (a, first), (b, second) in combinations(owners.items(), 2):
        assert not np.shares_memory(first, second), f"the {a} and the {b} share memory"
    for a, gradient in owners.items():
        for i, t in checked.leaves.items():
            assert not np.shares_memory(gradient, t.data), f"the {a} and v{i} share memory"


def compared(checked: Checked, values: list[Array], gradients: Gradients) -> float:
    """The worst error of values and gradients against PyTorch's."""
    worst = 0.0
    for i, (ours, theirs) in enumerate(zip(checked.values, values, strict=True)):
        assert ours.shape == theirs.shape, f"v{i}: shape {ours.shape}, in PyTorch {theirs.shape}"
        worst = max(worst, norm(ours.data - theirs) / max(1.0, norm(theirs)))
        assert worst <= TOLERANCE, f"v{i}: {ours.data}, in PyTorch {theirs}"
    for i, ours in checked.root_by_root().items():
        theirs = gradients[i]
        ours, theirs = (np.zeros(checked.leaves[i].shape) if g is None else g for g in (ours, theirs))
        worst = max(worst, norm(ours - theirs) / max(checked.scale, norm(theirs)))
        assert worst <= TOLERANCE, f"v{i}: gradient {ours}, in PyTorch {theirs}"
    return worst
