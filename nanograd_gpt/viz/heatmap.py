"""The figure of what updates do in each layer over a training: three maps, layers by tokens seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .palette import SCALE
from .plots import NARROW, Event, NotebookFigure, label_tokens, style

# isort: split
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py

RATIO_BOUNDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # around 1/1000, the rule of thumb
MOST_COLUMNS = 90
MOST_LABELS = 14  # of layers


class Map(NamedTuple):
    """One of the three maps."""

    field: str  # of an event "layers"
    title: str
    unit: str


MAPS = (
    Map("update_ratio", "Updates relative to weights", "Ratio (of rms)"),
    Map("gradient_rms", "Gradients before clipping", "Gradient (rms)"),
    Map("activation_rms", "Residual stream after a layer", "Activation (rms)"),
)


@style()
def plot_layers(events: Sequence[Event], *, tokens_per_epoch: float | None = None, width: float = 9) -> Figure:
    """Draw the update-to-weight ratio, the gradients and the activations of each layer against tokens seen.

    events                      of metrics.jsonl's kind "layers", at least one; a map without values is left out
    tokens_per_epoch            [None]: adds an axis in epochs
    width                       in inches [9]
    """
    columns = _columns(events, MOST_COLUMNS if width > NARROW else MOST_COLUMNS // 2)
    layers = {one: names for one in MAPS if (names := _layers(events, one.field))}
    heights = [max(3, len(names)) for names in layers.values()]
    per_layer = 0.2 if max(heights) <= MOST_LABELS else 0.12  # inches
    figure = NotebookFigure(figsize=(width, 2.4 + per_layer * sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(layers), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (one, names) in zip(all_axes, layers.items(), strict=True):
        _draw(axes, one, names, columns, width > NARROW)
    all_axes[-1].set_xlabel("Tokens seen")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(5 if width > NARROW else 3))
    label_tokens(all_axes[-1], all_axes[0], tokens_per_epoch, 10 if width > NARROW else 3)
    return figure


def _layers(events: Sequence[Event], field: str) -> list[str]:
    """The names of the layers, in the order of the first event that has each."""
    return [*dict.fromkeys(name for event in events for name in event[field])]


class Column(NamedTuple):
    """Some events, side by side in time, and where their column begins and ends, in tokens."""

    events: Sequence[Event]
    left: float
    right: float


def _columns(events: Sequence[Event], most: int) -> list[Column]:
    """The events in at most so many groups of neighbours; a column reaches to the next one."""
    groups = [
        [events[i] for i in part]
        for part in np.array_split(np.arange(len(events)), min(most, len(events)))
        if part.size
    ]
    lefts = [float(group[0]["tokens"]) for group in groups]
    last = lefts[-1] + (lefts[-1] - lefts[-2] if len(lefts) > 1 else max(lefts[-1], 1.0))
    return [Column(*column) for column in zip(groups, lefts, [*lefts[1:], last], strict=True)]


def _draw(axes: Axes, one: Map, layers: Sequence[str], columns: Sequence[Column], wide: bool) -> None:
    values = [[_mean([event[one.field].get(layer) for event in c.events]) for c in columns] for layer in layers]
    bounds = RATIO_BOUNDS if one.field == "update_ratio" else _bounds([v for row in values for v in row])
    rectangles: list[list[Any]] = [[] for _ in SCALE]
    for y, row in enumerate(values):
        left, level = columns[0].left, _level(row[0], bounds)
        for column, value in zip([*columns[1:], None], [*row[1:], None], strict=True):
            after = None if column is None else _level(value, bounds)
            if column is not None and after == level:
                continue
            right = columns[-1].right if column is None else column.left
            if level is not None:
                rectangles[level].append(_rectangle(left, right, y))
            left, level = right, after
    for color, paths in zip(SCALE, rectangles, strict=True):
        if paths:
            path = Path.make_compound_path(*paths)
            axes.add_patch(PathPatch(path, facecolor=color, edgecolor=color, linewidth=0.3))
    axes.set_xlim(columns[0].left, columns[-1].right)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    every = -(-len(layers) // MOST_LABELS)
    shown = range(0, len(layers), every)
    axes.set_yticks([*shown], [layers[i].capitalize() for i in shown])
    axes.set_title(one.title, loc="left")
    axes.grid(False)
    _add_bar(axes, one, bounds, wide)


def _add_bar(axes: Axes, one: Map, bounds: Sequence[float], wide: bool) -> None:
    """Add the scale of colours, whose ends are open."""
    ends = [bounds[0] / 3, *bounds, bounds[-1] * 3]
    colors = ListedColormap(SCALE[: len(ends) - 1])
    mappable = ScalarMappable(BoundaryNorm(ends, colors.N), colors)
    assert axes.figure is not None
    bar = axes.figure.colorbar(mappable, ax=axes, aspect=8, pad=0.02, fraction=0.1 if wide else 0.2, spacing="uniform")
    bar.set_ticks([*bounds], labels=[f"{bound:g}" for bound in bounds])
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(one.unit)


def _rectangle(left: float, right: float, y: int) -> Any:
    low, high = y - 0.5, y + 0.5
    return Path([(left, low), (right, low), (right, high), (left, high), (left, low)], closed=True)


def _level(value: float | None, bounds: Sequence[float]) -> int | None:
    """The number of the colour of a value; None for one that was not measured."""
    return None if value is None else bisect_right(bounds, value)


def _bounds(values: Sequence[float | None]) -> list[float]:
    """At most five numbers of two digits that part the positive values' range, evenly on a logarithmic scale."""
    known = [value for value in values if value]
    if not known:
        return list(RATIO_BOUNDS)
    low, high = min(known), max(known)
    return sorted({float(f"{low * (high / low) ** (i / len(SCALE)):.2g}") for i in range(1, len(SCALE))})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and isfinite(value)]
    return sum(known) / len(known) if known else None
