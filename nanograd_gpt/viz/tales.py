"""The figure of the tales that a model writes in training: which skill it learns when, and whether it copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from .palette import BLUE, ORANGE, PURPLE
from .plots import Event, NotebookFigure, add_legend, label_tokens, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py

CURVES: dict[str, tuple[str, str, dict[str, Any]]] = {  # of an event: the part, the whole, and a look
    "Sentences that are grammatical": ("grammatical", "sentences", {"color": BLUE, "linestyle": "-"}),
    "Sentences consistent with the tale": ("consistent", "tested", {"color": ORANGE, "linestyle": "-."}),
    "Tales copied from the training text": ("copies", "tales", {"color": PURPLE, "linestyle": ":"}),
}


@style()
def plot_tales(scores: Sequence[Event], *, tokens_per_epoch: float | None = None, width: float = 5) -> Figure:
    """Plot the percentages of sentences and tales against tokens seen.

    scores                      have tokens, and the counts of a Score: see metrics.jsonl's event "tales"
    tokens_per_epoch            [None]: adds an axis in epochs
    width                       in inches [5]
    """
    figure = NotebookFigure(figsize=(width, 3), layout="constrained")
    axes = figure.subplots()
    tokens = [score["tokens"] for score in scores]
    for label, (part, whole, look) in CURVES.items():
        shares = [percentage(score[part], score[whole]) for score in scores]
        axes.plot(tokens, shares, marker="o", markersize=3, label=label, **look)
    axes.set_xlabel("Tokens seen")
    axes.set_ylabel("Share (%)")
    axes.set_ylim(-3, 103)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    label_tokens(axes, axes, tokens_per_epoch)
    add_legend(figure, axes)
    return figure


def percentage(part: int, whole: int) -> float:
    """A share in percent; nan for a share of nothing."""
    return 100 * part / whole if whole else float("nan")
