"""Layout of a layered graph as an SVG: columns from left to right, in rows that wrap at a given width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TypeAlias

import numpy as np

# Sizes in SVG units
LINE, PADDING, DUMMY = 15, 12, 8
BETWEEN, GAP, PORT, MARGIN, BAND, LEGEND = 28, 14, 9, 18, 30, 18
CHARACTER = {"name": 8.0, "slope": 6.9, "soft": 6.9, "": 6.9}  # width, by style
NARROWEST = 358  # a phone of 390, without its margins
LABEL, PER_LABEL = 12, 70  # characters of a name in a connector: at most 12, and one for 70 pixels of a row

CSS = """
.graph { color-scheme: light dark; --paper: #fff; --box: #eaf3fa; --edge: #0072b2; --ink: #1f2328; --soft: #59636e;
  --module: #e6f4ee; --module-edge: #00795a; --slope: #b34700; }
@media (prefers-color-scheme: dark) { .graph { --paper: #14181d; --box: #1c2b38; --edge: #56b4e9; --ink: #e6e9ec;
  --soft: #9aa4ae; --module: #17302a; --module-edge: #2fbf95; --slope: #f0a13c; } }
.graph text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); text-anchor: middle; }
.graph .name { font-weight: 700; font-size: 13px; }
.graph .slope { fill: var(--slope); }
.graph .soft { fill: var(--soft); }
.graph .legend { text-anchor: start; }
.graph .paper { fill: var(--paper); }
.graph .named { fill: var(--box); stroke: var(--edge); stroke-width: 1.4; }
.graph .module { fill: var(--module); stroke: var(--module-edge); stroke-width: 1.4; }
.graph .operation, .graph .connector { fill: var(--paper); stroke: var(--soft); }
.graph .connector { stroke-dasharray: 3 2; }
.graph path { fill: none; stroke: var(--soft); stroke-width: 1.2; }
.graph .tip { fill: var(--soft); stroke: none; }
"""


@dataclass(eq=False)
class Item:
    """An element of the layout.

    A box is "named", "module" or "operation"; a "dummy" is where an edge passes through a column, and a pair of
    "connector"s with the same label continues an edge in the next row.
    """

    kind: str
    column: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)  # (style, text)
    label: str = ""  # of its connectors; empty for a number
    origin: Item | None = None  # of a dummy or connector: the box where its edge starts
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)
    x: float = 0.0  # left edge
    y: float = 0.0  # centre
    width: float = 0.0

    @property
    def height(self) -> int:
        return PADDING * (self.kind != "connector") + 4 + LINE * len(self.lines) if self.lines else DUMMY

    @property
    def text_width(self) -> float:
        """The width that its text needs."""
        return max((16 + CHARACTER[style] * len(text) for style, text in self.lines), default=0.0)


Columns: TypeAlias = list[list[Item]]


def layout(items: Sequence[Item], uses: Sequence[tuple[Item, Item]], legend: Sequence[str], width: int) -> str:
    """Draw items and the edges between them, as the text of an SVG file.

    items: in topological order.  legend: lines of SVG text below.  width: where rows wrap; a row has at least one box.
    """
    for item in items:
        item.column = 1 + max((source.column for source, target in uses if target is item), default=-1)
    for item in items:
        if item.column == 0:  # a leaf goes into the column before its first use
            item.column = min((target.column for source, target in uses if source is item), default=1) - 1
    columns = _columns(items, uses)
    _order(columns)
    bands = _bands(columns, width - 2 * MARGIN)
    columns = [column for band in bands for column in band]
    for sweep in range(24):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            _place(column)
    return _svg(bands, legend)


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
                dummies[source, column] = Item("dummy", column, origin=source, before=[here])
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


def _bands(columns: Columns, width: float) -> list[Columns]:
    """Break the columns into rows that fit into `width`, with connectors where edges go on in the next row."""
    bands: list[Columns] = []
    numbers: dict[Item, str] = {}
    row: Columns = []
    longest = min(LABEL, int(width / PER_LABEL))

    def ports(column: list[Item]) -> float:
        """The width of the connectors after a column, with the space before them."""
        labels = [_label(item, longest) or "99" for item in column if item.after]
        return max((BETWEEN + 16 + CHARACTER[""] * len(label) for label in labels), default=0)

    def fits(row: Columns, before: float = 0.0) -> bool:
        return before + sum(_width(column) + BETWEEN for column in row) - BETWEEN + ports(row[-1]) <= width

    for column in columns:
        if row and not fits([*row, column]):
            # a leaf stays in the row of its use, if that leaves a box in the row before
            has_leaf = any(not item.before for item in row[-1])
            has_more = len(row) > 1 and row[-2][0].kind != "connector"
            can_move = has_leaf and has_more and fits([row[-1], column], before=ports(row[-2]))
            moved = [row.pop()] if can_move else []
            ends, starts = _broken(row[-1], numbers, longest)
            bands.append([*row, ends])
            row = [starts, *moved]
        row.append(column)
    return [*bands, row]


def _width(column: list[Item]) -> float:
    return max(item.text_width for item in column)


def _label(source: Item, longest: int) -> str:
    """The label of connectors for the edges that start at an item; empty, for a number, if its name is too long."""
    label = (source.origin or source).label
    return label if len(label) <= longest else ""


def _broken(column: list[Item], numbers: dict[Item, str], longest: int) -> tuple[list[Item], list[Item]]:
    """Connectors for every edge that leaves a column: at the end of its row, and at the start of the next."""
    ends, starts = [], []
    for source in column:
        if source.after:
            origin = source.origin or source
            text = _label(source, longest) or numbers.setdefault(origin, str(len(numbers) + 1))
            end, start = (Item("connector", lines=[("", text)], origin=origin) for _ in range(2))
            end.before, end.after, start.before, start.after = [source], [start], [end], source.after
            for target in source.after:
                target.before = [start if other is source else other for other in target.before]
            source.after = [end]
            ends.append(end)
            starts.append(start)
    return ends, starts


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


def _svg(bands: list[Columns], legend: Sequence[str]) -> str:
    items = [item for band in bands for column in band for item in column]
    below, width = float(MARGIN), float(NARROWEST)
    for band in bands:
        top = min(item.y - item.height / 2 for column in band for item in column)
        x = float(MARGIN)
        for column in band:
            box = _width(column)
            for item in column:
                item.x, item.y, item.width = x, item.y - top + below, box
            x += box + BETWEEN
        width = max(width, x - BETWEEN + MARGIN)
        below = max(item.y + item.height / 2 for column in band for item in column) + BAND
    height = below + LEGEND * len(legend)
    parts = [
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="Computation graph">',
        f'<style>{CSS}</style><rect class="paper" width="100%" height="100%"/>',
        *(_line(source, item, port) for item in items for port, source in _ports(item)),
        *(_drawn(item) for item in items),
        *(
            f'<text class="legend" x="{MARGIN}" y="{below + LEGEND * i:.1f}">{line}</text>'
            for i, line in enumerate(legend)
        ),
        "</svg>\n",
    ]
    return "\n".join(part for part in parts if part)


def _ports(item: Item) -> list[tuple[float, Item]]:
    """The heights at which edges enter an item, and their sources, in an order without crossings."""
    sources = sorted(item.before, key=lambda source: source.y)
    return [(item.y + PORT * (i - (len(sources) - 1) / 2), source) for i, source in enumerate(sources)]


def _line(source: Item, target: Item, port: float) -> str:
    if source.kind == target.kind == "connector":  # the end of one row and the start of the next
        return ""
    start, end = source.x + source.width, target.x
    middle = (start + end) / 2
    bend = f"C{middle:.1f} {source.y:.1f} {middle:.1f} {port:.1f} {end:.1f} {port:.1f}"
    curve = f'<path d="M{start:.1f} {source.y:.1f}{bend}"/>'
    if target.kind == "dummy":
        return curve
    return f'{curve}<path class="tip" d="M{end:.1f} {port:.1f}l-6 -3v6z"/>'


def _drawn(item: Item) -> str:
    if item.kind == "dummy":
        return f'<path d="M{item.x:.1f} {item.y:.1f}h{item.width:.1f}"/>'
    y, middle = item.y - item.height / 2, item.x + item.width / 2
    radius = 10 if item.kind == "connector" else 7
    box = (
        f'<rect class="{item.kind}" x="{item.x:.1f}" y="{y:.1f}" width="{item.width:.1f}" height="{item.height}" '
        f'rx="{radius}"/>'
    )
    first = y + 14 if item.kind == "connector" else y + 19
    texts = [
        f'<text class="{style}" x="{middle:.1f}" y="{first + LINE * i:.1f}">{escape(text)}</text>'
        for i, (style, text) in enumerate(item.lines)
    ]
    return box + "".join(texts)
