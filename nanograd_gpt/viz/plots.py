"""Figures: losses, perplexity, and a whole run.  They do not need a matplotlib backend.

Nor do they touch pyplot's global state; a notebook shows a figure that is the last expression of a cell.
"""

from __future__ import annotations

from ..arguments import not_allowed, real_number, whole_number
from .import_matplotlib import without_variable  # sets the backend, before the imports below load matplotlib

# isort: split
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from math import inf
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogFormatter, MaxNLocator, StrMethodFormatter

from .curves import speeds
from .palette import BLUE, GREEN, INK, ORANGE, PAPER, PURPLE

TRAINING, VALIDATION, LEARNING_RATE, GRADIENT_NORM = BLUE, ORANGE, PURPLE, GREEN  # the same in every figure of a run

LARGEST_PERPLEXITY = 1e15  # larger values would flatten the rest of a curve
LARGEST_LOSS = np.log(LARGEST_PERPLEXITY)
DPI = 150
NARROW = 3.6  # inches: on a phone of 390 pixels, text of 9 points is 12 pixels high

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
    "figure.titlesize": 10.0,
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
    epochs_seen: npt.ArrayLike,
    tokens_seen: npt.ArrayLike,
    train_losses: npt.ArrayLike,
    val_losses: npt.ArrayLike,
    *,
    vocab_size: int | None = None,
    width: float = 5,
) -> Figure:
    """Plot both losses (nats) against epochs and tokens seen, as in the book; all four have one length.

    vocab_size                  int [None]: also draws the loss of a uniform guess, ln V
    width                       in inches [5]
    """
    vocab_size = _checked_vocab_size(vocab_size)
    figure = NotebookFigure(figsize=(_positive("width", width), 3), layout="constrained")
    axes = figure.subplots()
    for losses, look, color, label in (
        (train_losses, "-", TRAINING, "Training loss"),
        (val_losses, "-.", VALIDATION, "Validation loss"),
    ):
        axes.plot(epochs_seen, losses, look, color=color, marker=_marker(losses), label=label)
    axes.set_xlabel("Epochs")
    axes.set_ylabel("Loss (nats per token)")
    axes.xaxis.set_major_locator(EpochLocator("auto"))
    above = axes.twiny()
    above.plot(tokens_seen, train_losses, alpha=0)  # invisible: aligns the second axis with the first
    above.set_xlabel("Tokens seen")
    above.xaxis.set_major_formatter(EngFormatter(sep=""))
    above.spines.top.set_visible(True)
    above.grid(False)
    if (lowest := _lowest(val_losses)) is not None:
        loss, epoch = _floats(val_losses)[lowest], _floats(epochs_seen)[lowest]
        _mark(axes, epoch, loss, f"Lowest validation: {loss:.3f}, epoch {epoch:.1f}")
    if vocab_size is not None:
        loss = np.log(vocab_size)
        _level(axes, loss, f"Uniform guess: ln V = {loss:.3f}", loss, train_losses, val_losses)
    add_legend(figure, axes)
    return figure


@style()
def plot_perplexity(
    tokens_seen: npt.ArrayLike,
    train_losses: npt.ArrayLike,
    val_losses: npt.ArrayLike,
    log: bool = True,
    *,
    vocab_size: int | None = None,
    tokens_per_epoch: float | None = None,
    width: float = 5,
) -> Figure:
    """Plot perplexity, exp(loss), against tokens seen, on a logarithmic axis unless `log` is False.

    Losses are in nats.  Perplexities above 1e15 are left out, with a note.

    vocab_size                  int [None]: also draws the perplexity of a uniform guess, V
    tokens_per_epoch            [None]: adds an axis in epochs
    width                       in inches [5]
    """
    vocab_size = _checked_vocab_size(vocab_size)
    if tokens_per_epoch is not None:
        tokens_per_epoch = _positive("tokens_per_epoch", tokens_per_epoch)
    figure = NotebookFigure(figsize=(_positive("width", width), 3), layout="constrained")
    axes = figure.subplots()
    left_out, drawn = 0, 0
    for losses, look, color, label in (
        (train_losses, "-", TRAINING, "Training Perplexity"),
        (val_losses, "-.", VALIDATION, "Validation Perplexity"),
    ):
        known = _floats(losses)
        too_large = known > LARGEST_LOSS
        left_out += int(too_large.sum())
        perplexities = np.exp(np.where(too_large, np.nan, known))
        drawn += int((perplexities > 0).sum())
        axes.plot(tokens_seen, perplexities, look, color=color, marker=_marker(losses), label=label)
    if log and drawn:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))  # labels if there are few powers of 10
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_xlabel("Tokens Seen")
    axes.set_ylabel("Perplexity (tokens)")
    axes.set_title("Perplexity over Training")
    label_tokens(axes, axes, tokens_per_epoch)
    if (lowest := _lowest(val_losses)) is not None and (loss := _floats(val_losses)[lowest]) < LARGEST_LOSS:
        at = _floats(tokens_seen)[lowest]
        _mark(axes, at, np.exp(loss), f"Lowest validation: {np.exp(loss):,.1f}{_epoch(at, tokens_per_epoch)}")
    if vocab_size is not None:
        label = f"Uniform guess: V = {vocab_size:,}"
        _level(axes, float(vocab_size), label, np.log(vocab_size), train_losses, val_losses)
    if left_out:
        axes.text(0.02, 0.02, f"{left_out} above {LARGEST_PERPLEXITY:.0e} left out", transform=axes.transAxes)
    add_legend(figure, axes)
    return figure


@style()
def plot_training(
    steps: Sequence[Event],
    evaluations: Sequence[Event],
    *,
    vocab_size: int | None = None,
    max_norm: float | None = None,
    tokens_per_epoch: float | None = None,
    width: float = 9,
) -> Figure:
    """Plot a run: the loss of every update, both losses at evaluations, the gradient's norm, learning rate and speed.

    steps                       have tokens, loss, lr and, if they were measured, grad_norm and seconds
    evaluations                 have tokens, train_loss and val_loss
    vocab_size                  int [None]: also draws the loss of a uniform guess, ln V
    max_norm                    [None]: also draws the norm to which gradients were clipped
    tokens_per_epoch            [None]: adds an axis in epochs
    width                       in inches [9]
    """
    tokens, losses = _column(steps, "tokens"), _column(steps, "loss")
    norms = np.array([event.get("grad_norm") for event in steps], dtype=float)
    normed, measured = bool(np.isfinite(norms).any()), speeds(steps)
    heights = [3, *[1] * (1 + normed + bool(measured))]
    figure = NotebookFigure(figsize=(width, 1 + 1.1 * sum(heights)), layout="constrained")
    upper, *panels = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    middle, rate, lower = panels[:normed], panels[normed], panels[-1]
    mean_of = max(1, len(losses) // 30) | 1
    pale = {"alpha": 0.7, "linewidth": 0.7}
    look: dict[str, Any] = pale if mean_of > 1 else {}
    upper.plot(*_thinned(tokens, losses), color=TRAINING, label="Training, each update", **look)
    if mean_of > 1:
        mean = _thinned(tokens, _smoothed(losses, mean_of))
        upper.plot(*mean, color=TRAINING, label=f"Training, mean of {mean_of} updates")
    few = len(evaluations) <= 40 * width / 9
    at, val_losses = _column(evaluations, "tokens"), _column(evaluations, "val_loss")
    train_losses = _column(evaluations, "train_loss")
    for values, marks, color, label in (
        (train_losses, "--s" if few else "--", TRAINING, "Training, evaluation"),
        (val_losses, "-.o" if few else "-.", VALIDATION, "Validation, evaluation"),
    ):
        upper.plot(at, values, marks, color=color, markerfacecolor=PAPER, label=label)
    if (lowest := _lowest(val_losses)) is not None:
        loss, when = val_losses[lowest], _epoch(at[lowest], tokens_per_epoch)
        _mark(upper, at[lowest], loss, f"Lowest validation: {loss:.3f}{when}")
    if vocab_size is not None:
        loss = np.log(vocab_size)
        _level(upper, loss, f"Uniform guess: ln V = {loss:.3f}", loss, losses, train_losses, val_losses)
    upper.set_ylabel("Loss\n(nats per token)")
    for axes in middle:
        axes.plot(*_thinned(tokens, norms), color=GRADIENT_NORM, linewidth=1)
        axes.set_ylabel("Gradient\nnorm (L2)")
        positive = norms[np.isfinite(norms) & (norms > 0)]
        if positive.size and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        if max_norm:
            axes.axhline(
                max_norm, color=GRADIENT_NORM, linestyle="--", linewidth=1, label=f"Clipped above {max_norm:g}"
            )
    rate.plot(*_thinned(tokens, _column(steps, "lr")), color=LEARNING_RATE)
    rate.set_ylim(bottom=0)
    rate.set_ylabel("Learning rate\n(per update)")
    rate.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 3, 5, 10]))
    rate.yaxis.set_major_formatter(FuncFormatter(lambda lr, _: _readable(lr, rate.get_ylim()[1])))
    if measured:
        lower.plot(*zip(*measured, strict=True), color=INK, linewidth=1)
        lower.set_ylim(bottom=0)
        lower.set_ylabel("Speed\n(tokens/s)")
        lower.yaxis.set_major_locator(MaxNLocator(3))
        lower.yaxis.set_major_formatter(EngFormatter(sep=""))
    lower.set_xlabel("Tokens seen")
    label_tokens(lower, upper, tokens_per_epoch)
    figure.align_ylabels()
    add_legend(figure, upper, *middle)
    return figure


def _checked_vocab_size(vocab_size: int | None) -> int | None:
    return None if vocab_size is None else whole_number("vocab_size", vocab_size, 1)


def _positive(name: str, value: float) -> float:
    number = real_number(name, value, "a number > 0")
    if not 0 < number < inf:
        raise not_allowed(name, value, "a number > 0")
    return number


class EpochLocator(MaxNLocator):
    """Ticks at `most` whole epochs at most; at four parts of an epoch at most, whose numbers are long."""

    def __init__(self, most: int | Literal["auto"]) -> None:
        super().__init__(most, integer=True, min_n_ticks=1)
        self.most = most

    def tick_values(self, vmin: float, vmax: float) -> Any:
        self.set_params(nbins=self.most if vmax - vmin >= 1 else 3)
        return super().tick_values(vmin, vmax)


def label_tokens(axes: Axes, top: Axes, tokens_per_epoch: float | None, most_epochs: int = 10) -> None:
    """Label an x axis in tokens, and the top of the figure in epochs, so many at most, if their length is known."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if tokens_per_epoch:
        per = tokens_per_epoch
        above = top.secondary_xaxis("top", functions=(lambda x: np.divide(x, per), lambda x: np.multiply(x, per)))
        above.set_xlabel("Epochs")
        above.xaxis.set_major_locator(EpochLocator(most_epochs))


def _epoch(tokens: float, tokens_per_epoch: float | None) -> str:
    return f", epoch {tokens / tokens_per_epoch:.1f}" if tokens_per_epoch else ""


def _lowest(losses: npt.ArrayLike) -> int | None:
    """Index of the lowest finite loss; None with fewer than two, which have no lowest worth a mark."""
    known = np.where(np.isfinite(_floats(losses)), _floats(losses), np.inf)
    return int(np.argmin(known)) if np.isfinite(known).sum() > 1 else None


def _mark(axes: Axes, x: float, y: float, label: str) -> None:
    axes.plot([x], [y], "o", color=VALIDATION, markersize=9, markeredgewidth=1.6, markerfacecolor="none", label=label)


def _level(axes: Axes, y: float, label: str, loss: float, *losses: npt.ArrayLike) -> None:
    """Draw a horizontal line, or name it in the legend only if it would flatten the curves far below it."""
    known = np.concatenate([np.ravel(_floats(values)) for values in losses])
    known = known[np.isfinite(known)]
    look: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.2}
    if not known.size or loss <= 1.5 * known.max():
        axes.axhline(y, label=label, **look)
    else:
        axes.plot([], [], label=f"{label}, above", **look)


def add_legend(figure: Figure, *axes: Axes) -> None:
    """Add a legend below the axes, where it cannot hide a curve, and make the figure taller by its height.

    Figures without names for their curves have no legend.
    """
    named = [entry for one in axes for entry in zip(*one.get_legend_handles_labels(), strict=True)]
    handles, labels = [handle for handle, _ in named], [label for _, label in named]
    if not named:
        return
    for columns in (3, 2, 1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + box.height / figure.dpi)


def _readable(rate: float, largest: float) -> str:
    """A learning rate as a decimal such as 0.002, or as 3e-4 where all of an axis is below 0.001, as --lr takes it."""
    if rate == 0 or largest >= 0.001:
        return f"{rate:g}"
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _floats(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=float)


def _marker(values: npt.ArrayLike) -> str:
    """A marker for a line of one point, which is invisible without it."""
    return "o" if np.isfinite(_floats(values)).sum() == 1 else ""


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
def new_figure(height: float) -> Figure:
    """An empty figure in this style, legible on a phone; its height in inches."""
    return NotebookFigure(figsize=(NARROW, height), layout="constrained")


@style()
def rendered(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as a "png" or "svg" file, without date or version."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    buffer = BytesIO()
    with without_variable("SOURCE_DATE_EPOCH"):  # the figures have no date, and its nonsense would be an error
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
