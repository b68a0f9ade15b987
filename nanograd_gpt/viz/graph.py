"""The graph of a Tensor as an SVG with values and gradients, in the style of micrograd.

Values are shown for named tensors.  Gradients come from a backward pass over a copy of the graph, so that the graph
and the gradients its leaves have accumulated stay unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any, TypeAlias, cast

import numpy as np

from ..autograd import Function, Gradient, Leaf, Node, backward
from ..backend.contract import Array
from ..backend.select import kernels_of, to_host
from ..tensor import Tensor

FORMULAS = {
    "Add": "{} + {}",
    "Sub": "{} \u2212 {}",
    "Mul": "{} \u00d7 {}",
    "Div": "{} ÷ {}",
    "Pow": "{} ^ {}",
    "MatMul": "{} @ {}",
    "Neg": "\u2212{}",
    "Maximum": "max({}, {})",
}

# Sizes in SVG units
HEIGHTS = {"named": 60, "operation": 38, "dummy": 8}
CHARACTER, BETWEEN, GAP, PORT, MARGIN, LEGEND = 7.8, 32, 14, 9, 18, 34
LONGEST = 14  # characters of a formula that names its operands

CSS = """
.graph { color-scheme: light dark; --paper: #fff; --box: #eaf3fa; --edge: #0072b2; --ink: #1f2328; --soft: #656d76;
  --slope: #b34700; }
@media (prefers-color-scheme: dark) { .graph { --paper: #14181d; --box: #1c2b38; --edge: #56b4e9; --ink: #e6e9ec;
  --soft: #929ba5; --slope: #f0a13c; } }
.graph text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); text-anchor: middle; }
.graph .name { font-weight: 700; font-size: 13px; }
.graph .slope { fill: var(--slope); }
.graph .legend { text-anchor: start; }
.graph .paper { fill: var(--paper); }
.graph .named { fill: var(--box); stroke: var(--edge); stroke-width: 1.4; }
.graph .operation { fill: var(--paper); stroke: var(--soft); }
.graph path { fill: none; stroke: var(--soft); stroke-width: 1.2; }
.graph .tip { fill: var(--soft); stroke: none; }
"""


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


@dataclass(eq=False)
class Item:
    """An element of the layout: a node, or a dummy where an edge passes through a column."""

    kind: str  # "named", "operation" or "dummy"
    column: int
    lines: list[tuple[str, str]] = field(default_factory=list)  # (style, text)
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)
    x: int = 0  # left edge
    y: float = 0.0  # centre
    width: int = 0

    @property
    def height(self) -> int:
        return HEIGHTS[self.kind]


Columns: TypeAlias = list[list[Item]]


def draw_graph(tensor: Tensor, names: Mapping[str, Tensor]) -> str:
    """Draw the graph of a scalar Tensor from left to right, as the text of an SVG file.  Call it before backward.

    The tensors in `names` are boxes with name, value and gradient; other operations show only their gradient.
    Raises RuntimeError without a graph, or with one that backward has freed.
    """
    slopes = gradients(tensor)
    named = {t.node: (name, t) for name, t in names.items() if t.node is not None}
    items: dict[Node, Item] = {}
    for node in slopes:
        sources = [items[i] for i in node.parents if i is not None]
        column = 1 + max((source.column for source in sources), default=-1)
        lines = [("slope", _number(slopes[node]))]
        if node in named:
            lines = [("name", _text(node, named)), ("", _number(named[node][1].data)), *lines]
        else:
            lines = [("", _text(node, named)), *lines]
        items[node] = Item("named" if node in named else "operation", column, lines)
    uses = [(items[i], items[node]) for node in slopes for i in node.parents if i is not None]
    for item in items.values():
        if item.column == 0:  # a leaf goes into the column before its first use
            item.column = min((target.column for source, target in uses if source is item), default=1) - 1
    columns = _columns(list(items.values()), uses)
    _order(columns)
    for sweep in range(24):
        for some in columns if sweep % 2 == 0 else reversed(columns):
            _place(some)
    return _svg(columns)


def _text(node: Node, named: Mapping[Node, tuple[str, Tensor]]) -> str:
    """A node's formula: `a + b` of named values, `· + k` of an unnamed one and a plain number."""
    name = named[node][0] if node in named else ""
    if not isinstance(node, Function):
        return name or "leaf"
    formula = FORMULAS.get(type(node).__name__, type(node).__name__)
    operands = ["k" if i is None else named[i][0] if i in named else "·" for i in node.parents]
    start = f"{name} = " if name else ""
    text = start + formula.format(*operands)
    return text if len(text) <= LONGEST else start + formula.format(*["·"] * len(operands))


def _number(array: Array) -> str:
    if array.size != 1:
        return f"norm {np.linalg.norm(to_host(array)):.3g}"
    value = to_host(array).item()
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def _columns(items: Sequence[Item], uses: Sequence[tuple[Item, Item]]) -> Columns:
    """Sort items into columns and link neighbours; an edge across several columns gets a dummy in each one between.

    Edges from one item to several share dummies as far as they go together.
    """
    columns: Columns = [[] for _ in range(1 + max(item.column for item in items))]
    for item in items:
        columns[item.column].append(item)
    dummies: dict[tuple[Item, int], Item] = {}
    for source, target in uses:
        here = source
        for column in range(source.column + 1, target.column):
            if (source, column) not in dummies:
                dummies[source, column] = Item("dummy", column, before=[here])
                here.after.append(dummies[source, column])
                columns[column].append(dummies[source, column])
            here = dummies[source, column]
        here.after.append(target)
        target.before.append(here)
    return columns


def _order(columns: Columns) -> None:
    """Order each column for few edge crossings, by repeated sweeps with the barycentre heuristic."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(24):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            place = {item: i for neighbours in columns for i, item in enumerate(neighbours)}
            middle = {
                item: float(np.mean([place[other] for other in (item.before if forward else item.after) or [item]]))
                for item in column
            }
            column.sort(key=middle.__getitem__)
        if (crossings := _crossings(columns)) < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, order in zip(columns, best, strict=True):
        column[:] = order


def _crossings(columns: Columns) -> int:
    place = {item: i for column in columns for i, item in enumerate(column)}
    lines = [[(place[item], place[other]) for item in column for other in item.after] for column in columns]
    return sum((a - c) * (b - d) < 0 for some in lines for n, (a, b) in enumerate(some) for c, d in some[:n])


def _place(column: list[Item]) -> None:
    """Move the items of a column as near to the mean of their neighbours as their order and the gaps allow.

    Isotonic regression: items that would come too close are pooled, and move together.
    """
    offsets = np.cumsum([0, *((a.height + b.height) / 2 + GAP for a, b in pairwise(column))])
    pools: list[tuple[float, int]] = []  # mean of wanted position minus offset, and number of items
    for item, offset in zip(column, offsets, strict=True):
        neighbours = item.before + item.after
        pull = [4.0 if item.kind == other.kind == "dummy" else 1.0 for other in neighbours]  # keeps long edges straight
        wanted = np.average([other.y for other in neighbours], weights=pull) if neighbours else item.y
        mean, number = float(wanted - offset), 1
        while pools and pools[-1][0] > mean:
            above, n = pools.pop()
            mean, number = (mean * number + above * n) / (number + n), number + n
        pools.append((mean, number))
    means = [mean for mean, number in pools for _ in range(number)]
    for item, offset, mean in zip(column, offsets, means, strict=True):
        item.y = mean + float(offset)


def _svg(columns: Columns) -> str:
    items = [item for column in columns for item in column]
    top = min(item.y - item.height / 2 for item in items) - MARGIN
    box = 14 + round(CHARACTER * max(len(text) for item in items for _, text in item.lines))
    for item in items:
        item.x, item.y, item.width = MARGIN + item.column * (box + BETWEEN), item.y - top, box
    width = max(400, max(item.x for item in items) + box + MARGIN)  # 400: the legend's width
    height = max(item.y + item.height / 2 for item in items) + MARGIN + LEGEND
    parts = [
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" role="img" aria-label="Computation graph">',
        f'<style>{CSS}</style><rect class="paper" width="100%" height="100%"/>',
        *(_line(source, item, port) for item in items for port, source in _ports(item)),
        *(_drawn(item) for item in items),
        f'<text class="legend" x="{MARGIN}" y="{height - MARGIN:.1f}">value; <tspan class="slope">d(result)/d(value)'
        "</tspan>; · an unnamed value; k a plain number</text>",
        "</svg>\n",
    ]
    return "\n".join(parts)


def _ports(item: Item) -> list[tuple[float, Item]]:
    """The heights at which edges enter an item, and their sources, in an order without crossings."""
    sources = sorted(item.before, key=lambda source: source.y)
    return [(item.y + PORT * (i - (len(sources) - 1) / 2), source) for i, source in enumerate(sources)]


def _line(source: Item, target: Item, port: float) -> str:
    start, end = source.x + source.width, target.x
    middle = (start + end) / 2
    curve = f'<path d="M{start} {source.y:.1f}C{middle} {source.y:.1f} {middle} {port:.1f} {end} {port:.1f}"/>'
    if target.kind == "dummy":
        return curve
    return f'{curve}<path class="tip" d="M{end} {port:.1f}l-6 -3v6z"/>'


def _drawn(item: Item) -> str:
    if item.kind == "dummy":
        return f'<path d="M{item.x} {item.y:.1f}h{item.width}"/>'
    y, middle = item.y - item.height / 2, item.x + item.width / 2
    box = f'<rect class="{item.kind}" x="{item.x}" y="{y:.1f}" width="{item.width}" height="{item.height}" rx="7"/>'
    texts = [
        f'<text class="{style}" x="{middle}" y="{y + 16 + 16 * i:.1f}">{escape(text)}</text>'
        for i, (style, text) in enumerate(item.lines)
    ]
    return box + "".join(texts)
