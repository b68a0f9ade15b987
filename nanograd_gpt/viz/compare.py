"""comparison.html: several runs on one page, their losses in figures, and what differs in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from ..training.metrics import Event
from .curves import best_evaluation, number, total_seconds
from .figure_files import svgs
from .page import figure_html, setting_text, write_html
from .palette import BLUE, GREEN, ORANGE, PURPLE
from .plots import NARROW, NotebookFigure, add_legend, style
from .run_files import RunFiles, read_run

# isort: split
from matplotlib.ticker import EngFormatter, MaxNLocator

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py

MOST_RUNS = 16  # looks that can be told apart
COLOURS, DASHES, MARKERS = (BLUE, ORANGE, GREEN, PURPLE), ("-", "--", "-.", ":"), ("o", "s", "^", "D")
MOST_CHARACTERS = 24  # of a name in a legend
PAGE = "comparison.html"


class Named(NamedTuple):
    """A run and the name that it has on the page."""

    name: str
    files: RunFiles


def read_runs(paths: Sequence[Path]) -> list[Named]:
    """Read the runs to compare.  Raises InputError for one given twice or missing, and for too many."""
    if len(paths) > MOST_RUNS:
        raise InputError(f"plot: {len(paths)} runs are given; a page compares at most {MOST_RUNS}")
    places: dict[Path, Path] = {}
    for path in paths:
        if (place := path.resolve()) in places:
            twice = "given twice" if path == places[place] else f"the same run as {places[place]}"
            raise InputError(f"plot: {path} is {twice}; name each run once")
        places[place] = path
    names = [place.name or str(place) for place in places]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [Named(name, read_run(path)) for name, path in zip(names, paths, strict=True)]


CURVES = {  # a figure's name: its axes, as fields of events and labels
    "validation-by-tokens": ("tokens", "Tokens seen", "val_loss", "Validation loss (nats per token)"),
    "training-by-tokens": ("tokens", "Tokens seen", "train_loss", "Training loss (nats per token)"),
    "validation-by-updates": ("step", "Updates", "val_loss", "Validation loss (nats per token)"),
}


def comparison_figures(runs: Sequence[Named], narrow: bool = False) -> dict[str, Figure]:
    """The losses at evaluations: validation and training by tokens seen, and validation by updates."""
    return {name: _plot_losses(runs, *axes, width=NARROW if narrow else 4.0) for name, axes in CURVES.items()}


@style()
def _plot_losses(runs: Sequence[Named], x: str, x_label: str, y: str, y_label: str, width: float) -> Figure:
    figure = NotebookFigure(figsize=(width, 3), layout="constrained")
    axes = figure.subplots()
    for i, (name, files) in enumerate(runs):
        turn = (i + i // len(COLOURS)) % len(DASHES)  # so that no two runs share colour and dashes
        look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[turn], "marker": MARKERS[turn]}
        events = files.metrics.evaluations
        at, losses = [event[x] for event in events], [number(event[y]) for event in events]
        every = max(1, len(events) // 8)
        axes.plot(at, losses, markevery=every, label=_cut(f"{i + 1}  {name}"), **look)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    add_legend(figure, axes)
    return figure


def write_comparison(runs: Sequence[Named], out: Path, wide: Mapping[str, bytes]) -> Path:
    """Write comparison.html into a directory; returns its path.  wide: SVG files of comparison_figures(runs)."""
    narrow = svgs(comparison_figures(runs, narrow=True))
    captions = {name: _caption(runs, axes[2]) for name, axes in CURVES.items()}
    figures = "".join(figure_html(name, wide[name], narrow[name], captions[name]) for name in wide)
    title = f"{len(runs)} runs compared"
    return write_html(
        out / PAGE,
        title,
        [
            f"<header><h1>{title}</h1></header>",
            _results(runs),
            f'<h2>Losses at evaluations</h2>{_warning(runs)}<div class="pair">{figures}</div>',
            _differing(runs),
        ],
    )


def _caption(runs: Sequence[Named], field: str) -> str:
    """State which run ends lowest."""
    last = {name: number(files.metrics.evaluations[-1][field]) for name, files in runs if files.metrics.evaluations}
    known = {name: loss for name, loss in last.items() if isfinite(loss)}
    if len(known) < 2:
        return "Fewer than two of these runs have a finite loss at their last evaluation."
    low, high = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    return f"At their last evaluations, {low} is lowest ({known[low]:.3f}), and {high} highest ({known[high]:.3f})."


def _warning(runs: Sequence[Named]) -> str:
    """A sentence about losses that do not compare; empty if they do."""
    sizes = {files.vocab_size for _, files in runs}
    texts = {_settings(files).get("data") for _, files in runs}
    differing = [what for what, values in (("vocabularies", sizes), ("texts", texts)) if len(values) > 1]
    if not differing:
        return ""
    return (
        f"<p>These runs have different {' and '.join(differing)}: their losses per token do not compare directly.</p>"
    )


def _results(runs: Sequence[Named]) -> str:
    best = [best_evaluation(f.metrics.evaluations) for _, f in runs]
    last = [f.metrics.evaluations[-1] if f.metrics.evaluations else None for _, f in runs]
    rows = {
        "Parameters": [_count(next(iter(f.metrics.starts[-1:]), {}).get("n_parameters")) for _, f in runs],
        "Updates": [_count(f.metrics.steps[-1]["step"] + 1 if f.metrics.steps else 0) for _, f in runs],
        "Tokens seen": [_count(f.metrics.steps[-1]["tokens"] if f.metrics.steps else 0) for _, f in runs],
        "Last training loss": [_loss(evaluation, "train_loss") for evaluation in last],
        "Last validation loss": [_loss(evaluation, "val_loss") for evaluation in last],
        "Lowest validation loss": [_loss(evaluation, "val_loss") for evaluation in best],
        "after update": ["" if evaluation is None else f"{evaluation['step']:,}" for evaluation in best],
        "Time (s)": [f"{total_seconds(f.metrics.steps):,.0f}" for _, f in runs],
        "Tokens per second": [_speed(f.metrics.steps) for _, f in runs],
    }
    return f"<h2>Results</h2>{_table(runs, rows)}"


def _differing(runs: Sequence[Named]) -> str:
    """The settings that are not the same in all runs."""
    settings = [_settings(files) for _, files in runs]
    names = dict.fromkeys(name for group in settings for name in group)
    rows = {
        name: [setting_text(group[name]) if name in group else "not set" for group in settings]
        for name in names
        if any(group.get(name, _MISSING) != settings[0].get(name, _MISSING) for group in settings)
    }
    table = _table(runs, rows) if rows else "<p>None: these runs have the same settings.</p>"
    return f"<h2>Settings that differ</h2>{table}"


_MISSING = object()


def _settings(files: RunFiles) -> dict[str, Any]:
    """A run's settings by name, without their groups."""
    return {
        name: value
        for group, values in files.config.items()
        for name, value in (values.items() if isinstance(values, Mapping) else [(group, values)])
    }


def _table(runs: Sequence[Named], rows: Mapping[str, Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{i}  {escape(name)}</th>' for i, (name, _) in enumerate(runs, 1))
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(value)}</td>" for value in values)}</tr>'
        for name, values in rows.items()
    )
    return (
        '<div class="scroll" tabindex="0"><table class="compared"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _loss(evaluation: Event | None, name: str) -> str:
    return "" if evaluation is None else f"{number(evaluation[name]):.3f}"


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _speed(steps: Sequence[Event]) -> str:
    seconds = total_seconds(steps)
    return f"{steps[-1]['tokens'] / seconds:,.0f}" if steps and seconds else ""


def _cut(name: str) -> str:
    return name if len(name) <= MOST_CHARACTERS else f"{name[: MOST_CHARACTERS - 1]}…"
