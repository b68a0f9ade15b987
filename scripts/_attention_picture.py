"""Pictures of attention as vector graphics, so that their colours follow a page's dark mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanograd_gpt.viz.palette import BLUE, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # imported at run time by viz/plots.py, under any MPLBACKEND

VISIBLE = 0.004  # of full strength
LEGIBLE = 0.5  # of full strength: the strongest colour behind words, whose contrast is then above 4.5, dark or light
WIDTHS = (0.85, 0.85, 1.1, 1.2, 0.3)  # of a sentence's columns: its words and the full stop


def draw_cells(axes: Axes, values: npt.ArrayLike, most: float = 1.0) -> None:
    """Draw values (rows, columns) as squares, the darker the closer to `most`; negative ones are orange."""
    array = np.clip(np.asarray(values, dtype=float) / most, -1, 1)
    rows, columns = np.nonzero(np.abs(array) > VISIBLE)
    colours: list[Any] = [(BLUE if x > 0 else ORANGE, abs(x)) for x in array[rows, columns]]
    axes.barh(rows, 1, height=1, left=columns - 0.5, color=colours, linewidth=0)
    axes.set(xlim=(-0.5, array.shape[1] - 0.5), ylim=(array.shape[0] - 0.5, -0.5), aspect="equal")
    axes.grid(False)


def draw_attention(axes: Axes, weights: npt.ArrayLike, words: Sequence[str]) -> None:
    """Draw one head's weights (T, T), each row a token that looks, each column one that it looks at."""
    draw_cells(axes, weights)
    axes.set_xticks(range(len(words)), words, rotation=90)
    axes.set_yticks(range(len(words)), words)


def draw_tale(axes: Axes, words: Sequence[str], weights: npt.ArrayLike, query: int) -> None:
    """Write a tale up to `query`, one sentence a line, each word on its weight; a frame marks the query."""
    edges = np.concatenate([[0], np.cumsum(WIDTHS)])
    n = (query // len(WIDTHS) + 1) * len(WIDTHS)  # words up to the end of the sentence
    for i, (word, weight) in enumerate(zip(words[:n], np.asarray(weights, dtype=float)[:n], strict=True)):
        row, column = divmod(i, len(WIDTHS))
        left, width = edges[column], WIDTHS[column]
        look: dict[str, Any] = {"edgecolor": INK, "linewidth": 1.2} if i == query else {"linewidth": 0}
        axes.barh(row, width, height=0.9, left=left, color=[(BLUE, LEGIBLE * weight)], **look)
        axes.text(left + width / 2, row, word, ha="center", va="center")
    axes.set(xlim=(-0.05, edges[-1] + 0.05), ylim=(query // len(WIDTHS) + 0.6, -0.6))
    axes.axis("off")
