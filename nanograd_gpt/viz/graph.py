"""The graph of a computation as an SVG with the value and gradient of every node, in the style of micrograd.

    a, b = Tensor(2.0, requires_grad=True), Tensor(-3.0, requires_grad=True)
    draw_graph(lambda: {"a": a, "b": b, "c": a * b + 1}).save("graph.svg")
    draw_graph(lambda: model.loss(ids, targets), model, opened=["trf_blocks.0"])  # shown by a notebook

Values are recorded while draw_graph runs the computation; operations do not keep them otherwise.  Gradients come from a
backward pass over a copy of the graph, so that the gradients its leaves have accumulated stay unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..autograd import Function, Gradient, Leaf, Node, backward
from ..backend.contract import Array
from ..backend.select import kernels_of, to_host
from ..errors import InputError
from ..files import write_whole
from ..nn.module import Module
from ..tensor import Tensor
from .graph_layout import Item, layout
from .graph_modules import Box, ModuleTree
from .graph_record import Recording, recorded

FORMULAS = {
    "Add": "{} + {}",
    "Sub": "{} - {}",
    "Mul": "{} * {}",
    "Div": "{} / {}",
    "Pow": "{} ** {}",
    "MatMul": "{} @ {}",
    "Neg": "-{}",
}
LONGEST = 24  # characters of a formula that names its operands
WIDTH = 910  # pixels: in a page's column of 838, such as GitHub's, text of 12 pixels is scaled to 11
LEGEND = (  # each line fits into the narrowest graph
    "value, of an array mean and minimum … maximum",
    '<tspan class="slope">grad: d(result)/d(value)</tspan>',
    "· an operand without a name",
    "dashed: an edge that goes on in the next row",
)


class Probe(Function):
    """Identity that records the gradient of its output."""

    __slots__ = ("seen",)
    seen: Array

    def backward(self, dy: Array) -> tuple[Gradient]:
        kept = dy.copy()
        self.seen = np.asarray(kept) if isinstance(kept, np.generic) else kept  # NumPy makes () arrays scalars
        return (dy,)


def gradients(root: Tensor, gradient: Array | None = None) -> dict[Node, Array]:
    """The gradient of every node that root depends on, by a backward pass over a copy of the graph.

    root is a scalar, or `gradient` (root.shape) is its gradient.  Nodes are in topological order.
    Raises RuntimeError without a graph, or with one that backward has freed.
    """
    if root.node is None:
        raise RuntimeError("this Tensor has no graph: none of its inputs has requires_grad=True")
    copies: dict[Node, Node] = {}  # a leaf, or a probe after the copied operation
    for node in _ancestors(root.node):
        if isinstance(node, Leaf):
            copies[node] = Leaf(node.dtype)
        elif isinstance(node, Function):
            if not node.parents:
                raise RuntimeError(
                    f"{type(node).__name__}: backward has freed this graph; read it before calling backward"
                )
            operation, probe = _shallow_copy(node), Probe()
            operation.parents = [None if i is None else copies[i] for i in node.parents]
            operation.order, probe.dtype = 2 * node.order, node.dtype
            probe.parents, probe.order = [operation], operation.order + 1  # below its users, which are 2 above
            copies[node] = probe
    backward(copies[root.node], kernels_of(root.data).xp.ones_like(root.data) if gradient is None else gradient)
    seen = {node: copy.seen if isinstance(copy, Probe) else copy.grad for node, copy in copies.items()}
    return {node: g for node, g in seen.items() if g is not None}


def _shallow_copy(node: Function) -> Function:
    """A copy of an operation with the same arrays; nodes refuse copy.copy, which would share their graph."""
    copy = type(node).__new__(type(node))
    attributes, slots = cast("tuple[dict[str, Any] | None, dict[str, Any]]", object.__getstate__(node))
    for name, value in {**(attributes or {}), **slots}.items():
        setattr(copy, name, value)
    return copy


def _ancestors(root: Node) -> list[Node]:
    """The node and all its ancestors, oldest first."""
    found, pending = {root: None}, [root]
    while pending:
        for node in pending.pop().parents:
            if node is not None and node not in found:
                found[node] = None
                pending.append(node)
    return sorted(found, key=lambda node: node.order)


@dataclass(frozen=True)
class Graph:
    """A drawn graph: the text of its SVG file.  A notebook shows it."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write the SVG file; returns its path.  Raises InputError for another suffix than .svg."""
        path = Path(path)
        if path.suffix != ".svg":
            raise InputError(f"graph: {str(path)!r} does not end with .svg, the only format of a graph")
        write_whole(path, self.svg.encode())
        return path


def draw_graph(
    compute: Callable[[], Tensor | Mapping[str, Tensor]],
    model: Module | None = None,
    opened: str | Sequence[str] = (),
    width: int = WIDTH,
) -> Graph:
    """Draw the graph of a scalar from left to right, with the value and gradient of every node.

    compute     function without arguments that computes the scalar Tensor, or a dictionary of named Tensors of which
                the last one is the scalar.  It is called once; dropout advances its random stream as in any call
    model       Module of which each part is drawn as one box, such as a TransformerBlock; Sequential parts are open
    opened      one or several modules to draw with their parts, such as "trf_blocks.0" or "trf_blocks.0.att"
    width       pixels at which rows wrap [910], 358 for a phone; the text is 12 px high

    Raises InputError for a result that is not a scalar and for an unknown module, RuntimeError if no value requires a
    gradient or backward has freed the graph.
    """
    if isinstance(compute, Tensor):
        raise InputError(
            "draw_graph: expected a function that computes the result, such as lambda: model.loss(ids, targets), and "
            "not a Tensor, which has not kept its intermediate values"
        )
    tree = ModuleTree(model, [opened] if isinstance(opened, str) else opened)
    with recorded() as recording:
        result = compute()
    names = dict(result) if isinstance(result, Mapping) else {"": result}
    root = [*names.values()][-1] if names else None
    if not isinstance(root, Tensor):
        raise InputError(
            f"draw_graph: the function's result is {type(root).__name__}; return a Tensor, or a dictionary of Tensors"
        )
    if root.size != 1:
        raise InputError(f"draw_graph: the result has shape {root.shape}, not one element; use .sum() or .mean()")
    slopes = gradients(root)
    tensors = {name: tensor for name, tensor in names.items() if name}
    named = tree.names | {tensor.node: name for name, tensor in tensors.items() if tensor.node is not None}
    for tensor in (root, *tensors.values()):
        if tensor.node is not None:
            recording.values.setdefault(tensor.node, tensor.data)  # a leaf that is its own result
    constants = {id(tensor.data): name for name, tensor in tensors.items() if tensor.node is None}
    missing = [node for node in slopes if node not in recording.values]
    if missing:
        raise InputError(
            f"draw_graph: {type(missing[0]).__name__} was computed before draw_graph was called; compute the whole "
            "result in the function"
        )
    boxes = {node: tree.box_of(node, recording.calls.get(node, ())) for node in slopes}
    describe = _Describe(recording, slopes, named, constants)
    items = _items(boxes, tree, describe)
    uses = _uses(boxes, tree, items)
    drawn = [
        item for key, item in items.items() if not isinstance(key, Leaf) or len(items) == 1 or _is_used(item, uses)
    ]
    return Graph(layout(drawn, uses, LEGEND, width))


def _items(boxes: Mapping[Node, Box | None], tree: ModuleTree, describe: _Describe) -> dict[Node | Box, Item]:
    """An item for every node outside closed modules, and one for every closed module, in topological order."""
    last = {box: node for node, box in boxes.items() if box is not None}  # whose value is the module's result
    items: dict[Node | Box, Item] = {}
    for node, box in boxes.items():
        if box is None:
            items[node] = describe.node(node)
        elif last[box] is node:
            items[box] = describe.module(box, tree.modules[box.path], node)
    return items


def _uses(
    boxes: Mapping[Node, Box | None], tree: ModuleTree, items: Mapping[Node | Box, Item]
) -> list[tuple[Item, Item]]:
    """The edges between items: one for every use by an operation, at most one into a module."""
    uses: list[tuple[Item, Item]] = []
    for node, box in boxes.items():
        for parent in node.parents:
            if parent is None or (box is not None and (boxes[parent] == box or tree.holds(box, parent))):
                continue
            use = items[boxes[parent] or parent], items[box or node]
            if box is None or use not in uses:
                uses.append(use)
    return uses


def _is_used(item: Item, uses: Sequence[tuple[Item, Item]]) -> bool:
    return any(source is item for source, _ in uses)


@dataclass
class _Describe:
    """The lines of text of a graph's boxes."""

    recording: Recording
    slopes: Mapping[Node, Array]
    named: Mapping[Node, str]
    constants: Mapping[int, str]  # names of tensors without a gradient, by the id of their array

    def node(self, node: Node) -> Item:
        name = self.named.get(node, "")
        kind = "named" if name else "operation"
        return Item(kind, lines=[("name", self._formula(node)), *self._numbers(node)], label=name)

    def module(self, box: Box, module: Module, result: Node) -> Item:
        n = module.n_parameters
        about = [("soft", text) for text in (type(module).__name__, f"{n:,} parameters" if n else "") if text]
        operation = [("soft", _function(box.call))] if isinstance(box.call, Node) else []  # the module was not called
        lines = [("name", box.path), *about, *operation, *self._numbers(result)]
        return Item("module", lines=lines, label=box.path)

    def _numbers(self, node: Node) -> list[tuple[str, str]]:
        value = self.recording.values[node]
        shape = [("soft", str(value.shape))] if value.size != 1 else []
        slopes = [("slope", text) for text in _numbers(self.slopes[node], "grad ")]
        return [*shape, *(("", text) for text in _numbers(value)), *slopes]

    def _formula(self, node: Node) -> str:
        """A node's formula: `c = a * b` of named values, `· + 3` of an unnamed one and a number."""
        name = self.named.get(node, "")
        if not isinstance(node, Function):
            return name or "leaf"
        operands = [
            _operand(self.named.get(parent, "·") if parent is not None else self.constants.get(id(array)), array)
            for parent, array in zip(node.parents, self.recording.inputs[node], strict=True)
        ]
        start = f"{name} = " if name else ""
        formula, function = FORMULAS.get(type(node).__name__), _function(node)
        text = start + (formula.format(*operands) if formula else f"{function}({', '.join(operands)})")
        if len(text) <= LONGEST:
            return text
        return start + (formula.format(*["·"] * len(operands)) if formula else function)


def _function(node: Node) -> str:
    """An operation's name as a function's: LayerNorm is layer_norm."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(node).__name__).lower()


def _operand(name: str | None, array: Any) -> str:
    """An operand by its name, a constant by its number or its shape."""
    if name is not None:
        return name
    value = to_host(array) if hasattr(array, "shape") else np.asarray(array)
    return f"{value.item():g}" if value.size == 1 and value.dtype.kind in "biuf" else str(value.shape)


def _numbers(array: Array, what: str = "") -> list[str]:
    """A number, or the mean and the extremes of an array in two lines."""
    if array.size != 1:
        values = to_host(array)
        if not values.size:
            return [f"{what}empty"]
        return [f"{what}mean {values.mean():.3g}", f"{values.min():.3g} … {values.max():.3g}"]
    value = to_host(array).item()
    return [what + (f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}")]
