"""Messages of the gradient checks: arguments of the wrong kind, and the place of an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..autograd import Function
from ..errors import a_or_an
from ..tensor import Tensor

KINKS = (
    "; if the function is not analytic (abs, max at a tie, relu at 0), use method='central' and points away from kinks"
)


def check_arguments(name: str, function: Any, inputs: Any) -> None:
    """Raise TypeError for a class in place of a function, and for one array in place of a list of them."""
    if isinstance(function, type) and issubclass(function, Function):
        of = function.__name__
        raise TypeError(f"{name}: {of} is the class of an operation; give lambda *inputs: apply({of}, *inputs)")
    if not callable(function):
        raise TypeError(f"{name}: expected a function of Tensors, got a {type(function).__name__}")
    if isinstance(inputs, np.ndarray | Tensor) or not isinstance(inputs, Sequence):
        raise TypeError(
            f"{name}: inputs is {a_or_an(type(inputs).__name__)}; give a list with one entry per argument: [x]"
        )


def checked_leaves(name: str, output: Any, leaves: Any) -> Mapping[str, Tensor]:
    """The leaves by name.  Raises TypeError unless they are names with Tensors, and `output` can be called."""
    if not callable(output):
        kind = type(output).__name__
        raise TypeError(f"{name}: output is a {kind}; give a function that computes it, such as lambda: loss(model)")
    pairs = (
        [*leaves.items()] if isinstance(leaves, Mapping) else [*leaves] if isinstance(leaves, Iterable) else [leaves]
    )
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Tensor)):
            of = pair[1] if isinstance(pair, tuple) and len(pair) == 2 else pair
            raise TypeError(
                f"{name}: leaves: expected names with Tensors, got a {type(of).__name__}; give "
                'model.named_parameters(), or {"x": x}'
            )
    return dict(pairs)


def element_text(at: int, shapes: Sequence[tuple[int, ...]]) -> str:
    """The element of the input, and of the result, at position `at` of a comparison of these shapes in C order."""
    if not shapes:
        return ""
    index = [int(i) for i in np.unravel_index(at, [n for shape in shapes for n in shape])]
    of_input, of_result = tuple(index[: len(shapes[0])]), tuple(index[len(shapes[0]) :])
    return f", element {of_input}" + (f" for element {of_result} of the result" if len(shapes) > 1 else "")


def uses_text(output: Tensor, leaf: Tensor) -> str:
    """The only operation that uses a leaf, as the start of a message; empty if there are several or none."""
    seen, pending, uses = set[int](), [output.node], list[str]()
    while pending:
        node = pending.pop()
        if not isinstance(node, Function) or id(node) in seen:
            continue
        seen.add(id(node))
        pending.extend(node.parents)
        uses += [
            f"in {type(node).__name__}.backward, for input {i}: " for i, p in enumerate(node.parents) if p is leaf.node
        ]
    return uses[0] if len(uses) == 1 else ""
