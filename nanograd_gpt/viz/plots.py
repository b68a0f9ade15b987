"""Figures: losses, perplexity, and a whole run.  They do not need a matplotlib backend.

Nor do they touch pyplot's global state; a notebook shows a figure that is the last expression of a cell.
"""

from __future__ import annotations

from ..files import write_whole
from . import import_matplotlib  # noqa: F401  # imported for its effect: the import below works under any MPLBACKEND

# isort: split
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, MaxNLocator, StrMethodFormatter

# Okabe and Ito's palette (2008), which is safe for colour-blind readers
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, PAPER = "#24292f", "#ffffff"

LARGEST_PERPLEXITY = 1e15  # larger values would flatten the rest of a curve
DPI = 150

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "figure.facecolor": PAPER,
    "font.size": 9.0,
    "grid.alpha": 0.12,
    "grid.color": INK,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "svg.hashsalt": "nanograd_gpt",  # deterministic ids in SVG files
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

Event = Mapping[str, Any]  # a line of metrics.jsonl


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Apply the style and ignore the user's matplotlibrc, so that output is deterministic.  Also a decorator.

    Draw and save within it: some settings take effect when a line is added, others when the file is written.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


class NotebookFigure(Figure):
    """A Figure that a notebook displays without pyplot."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


@style()
def plot_losses(
    epochs_seen: npt.ArrayLike, tokens_seen: npt.ArrayLike, train_losses: npt.ArrayLike, val_losses: npt.ArrayLike
) -> Figure:
    """Plot both losses (nats) against epochs and tokens seen, as in the book; all four have one length."""
    figure = NotebookFigure(figsize=(5, 3))
    axes = figure.subplots()
    axes.plot(epochs_seen, train_losses, marker=_marker(train_losses), label="Training loss")
    axes.plot(epochs_seen, val_losses, linestyle="-.", marker=_marker(val_losses), label="Validation loss")
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Loss")
    axes.legend(loc="upper right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    above = axes.twiny()
    above.plot(tokens_seen, train_losses, alpha=0)  # invisible: aligns the second axis with the first
    above.set_xlabel("Tokens seen")
    above.xaxis.set_major_formatter(EngFormatter(sep=""))
    above.spines.top.set_visible(True)
    above.grid(False)
    figure.tight_layout()
    return figure


@style()
def plot_perplexity(
    tokens_seen: npt.ArrayLike, train_losses: npt.ArrayLike, val_losses: npt.ArrayLike, log: bool = False
) -> Figure:
    """Plot perplexity, exp(loss), against tokens seen, on a logarithmic axis if `log`.

    Losses are in nats.  Perplexities above 1e15 are left out, with a note.
    """
    figure = NotebookFigure(figsize=(5, 3))
    axes = figure.subplots()
    left_out = 0
    for losses, line, label in (
        (train_losses, "-", "Training Perplexity"),
        (val_losses, "-.", "Validation Perplexity"),
    ):
        known = np.asarray(losses, dtype=float)
        too_large = known > np.log(LARGEST_PERPLEXITY)
        left_out += int(too_large.sum())
        perplexities = np.exp(np.where(too_large, np.nan, known))
        axes.plot(tokens_seen, perplexities, linestyle=line, marker=_marker(losses), label=label)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))  # labels if there are few powers of 10
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("Tokens Seen")
    axes.set_ylabel("Perplexity")
    axes.set_title("Perplexity over Training")
    axes.legend(loc="upper right")
    if left_out:
        axes.text(0.02, 0.02, f"{left_out} above {LARGEST_PERPLEXITY:.0e} left out", transform=axes.transAxes)
    figure.tight_layout()
    return figure


@style()
def plot_training(steps: Sequence[Event], evaluations: Sequence[Event]) -> Figure:
    """Plot a run: the loss of every step, both losses at evaluations, and the learning rate below.

    steps have tokens, loss and lr; evaluations have tokens, train_loss and val_loss.
    """
    figure = NotebookFigure(figsize=(9, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    tokens, losses = _column(steps, "tokens"), _column(steps, "loss")
    width = max(1, len(losses) // 30) | 1
    if width > 1:
        upper.plot(*_thinned(tokens, losses), color=BLUE, alpha=0.45, linewidth=0.8, label="Each step")
        upper.plot(*_thinned(tokens, _smoothed(losses, width)), color=BLUE, label=f"Mean of {width} steps")
    else:
        upper.plot(tokens, losses, color=BLUE, label="Each step")
    few = len(evaluations) <= 40
    at = _column(evaluations, "tokens")
    for name, look, color in (
        ("training", "--s" if few else "--", GREEN),
        ("validation", "-.o" if few else "-.", ORANGE),
    ):
        losses = _column(evaluations, "train_loss" if name == "training" else "val_loss")
        upper.plot(at, losses, look, color=color, label=f"Evaluation, {name}")
    upper.set_ylabel("Loss (nats per token)")
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)  # above the axes, where it cannot hide a curve
    lower.plot(*_thinned(tokens, _column(steps, "lr")), color=PURPLE)
    lower.set_ylim(bottom=0)
    lower.set_ylabel("Learning rate")
    lower.set_xlabel("Tokens seen")
    lower.yaxis.set_major_locator(MaxNLocator(3))
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lower.xaxis.set_major_formatter(EngFormatter(sep=""))
    figure.align_ylabels()
    return figure


def _marker(values: npt.ArrayLike) -> str:
    """A marker for a line of one point, which is invisible without it."""
    return "o" if np.isfinite(np.asarray(values, dtype=float)).sum() == 1 else ""


def _column(events: Sequence[Event], name: str) -> npt.NDArray[np.float64]:
    return np.array([event[name] for event in events], dtype=float)  # None becomes nan, which leaves a gap


def _smoothed(y: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Moving average over `width` neighbours, fewer at both ends; values that are not finite are ignored."""
    known = np.isfinite(y)
    window = np.ones(width)
    number = np.convolve(known, window, mode="same")
    total = np.convolve(np.where(known, y, 0), window, mode="same")
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _thinned(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], groups: int = 1000
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The minimum and maximum of each group of neighbours: looks the same, in a smaller file."""
    if len(y) <= 2 * groups:
        return x, y
    kept = set()
    for group in np.array_split(np.arange(len(y)), groups):
        kept |= {group[0], group[np.argmin(y[group])], group[np.argmax(y[group])]}
    index = sorted({*kept, len(y) - 1})
    return x[index], y[index]


@style()
def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure in this style, with its axes; width and height in inches."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def save_figure(figure: Figure, path: str | Path) -> list[Path]:
    """Write path.png (150 dpi) and path.svg, deterministically; returns both paths."""
    path = Path(path)
    written = []
    for kind in ("png", "svg"):
        file = path.with_name(f"{path.name}.{kind}")
        write_whole(file, rendered(figure, kind))
        written.append(file)
    return written


@style()
def rendered(figure: Figure, kind: str, transparent: bool = False) -> bytes:
    """The bytes of a figure as a "png" or "svg" file, without date or version."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata, transparent=transparent)
    return buffer.getvalue()
