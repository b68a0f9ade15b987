"""README's figure of speed, from the files in results/: time of a step, tokens per second, and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speed_parts import LABELS, PHASES, result

from nanograd_gpt.bench.statistics import summary
from nanograd_gpt.files import write_whole
from nanograd_gpt.viz.dark import with_dark_mode
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE
from nanograd_gpt.viz.plots import new_figure, rendered, style

if TYPE_CHECKING:  # imported at run time by viz/plots.py, under any MPLBACKEND
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = dict(zip(PHASES, (BLUE, ORANGE, GREEN), strict=True))
WHOLE = {"color": INK, "alpha": 0.55}  # of a bar without phases: no phase's colour


def write_figure(path: Any) -> None:
    """Write the figure as an SVG, with light and dark colours."""
    write_whole(path, with_dark_mode(rendered(speed_figure(), "svg")))


@style()
def speed_figure() -> Figure:
    """Four panels of bars, nanograd_gpt on top, below each other: the text is legible on a phone."""
    figure = new_figure(7.6)
    figure.get_layout_engine().set(h_pad=0.08)
    large, small, tokens, memory = figure.subplots(4)
    _step(large, "train_124m.json", "Train step, 124M", "ms, lower is faster")
    _step(small, "train_small.json", "Train step, small", "ms, lower is faster")
    _generation(tokens)
    _memory(memory)
    handles, labels = large.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(PHASES))
    return figure


def _step(axes: Axes, file: str, title: str, unit: str) -> None:
    facts = result(file)
    samples, names = facts["samples"], list(facts["samples"])
    left = [0.0] * len(names)
    for phase in PHASES:
        ms = [1e3 * summary([s[phase] for s in samples[name]]).median for name in names]
        axes.barh(range(len(names)), ms, left=left, color=COLORS[phase], label=phase)
        left = [a + b for a, b in zip(left, ms, strict=True)]
    whole = [1e3 * summary([s["total"] for s in samples[name]]).median for name in names]
    _finish(axes, _titled(title, facts), unit, [LABELS[name] for name in names], whole, left)


def _generation(axes: Axes) -> None:
    facts = result("generation.json")
    n, samples = [*facts["samples"].items()][-1]
    speeds = [int(n) / summary([s["total"] for s in taken]).median for taken in samples.values()]
    axes.barh(range(len(speeds)), speeds, **WHOLE)
    labels = [LABELS[name] for name in samples]
    _finish(axes, _titled(f"{n} new tokens", facts), "tokens/s, higher is faster", labels, speeds)


def _memory(axes: Axes) -> None:
    facts = result("memory.json")
    peaks = facts["peak_bytes"]
    chosen = {name.removeprefix("train, "): max(taken) for name, taken in peaks.items() if name.startswith("train, ")}
    megabytes = [n / 1e6 for n in chosen.values()]
    axes.barh(range(len(megabytes)), megabytes, **WHOLE)
    labels = [LABELS[name] for name in chosen]
    _finish(axes, _titled("Peak memory, 124M", facts), "MB, lower is better", labels, megabytes)


def _titled(title: str, facts: Mapping[str, Any]) -> str:
    return f"{title}: --quick" if facts["quick"] else title


def _finish(
    axes: Axes, title: str, unit: str, labels: Sequence[str], values: Sequence[float], ends: Sequence[float] = ()
) -> None:
    """Add names and numbers; `ends` are the ends of stacked bars, since medians of parts need not sum to the median."""
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlim(0, 1.2 * max(values))
    for i, (value, end) in enumerate(zip(values, ends or values, strict=True)):
        axes.text(end, i, f" {value:,.0f}" if value >= 1000 else f" {value:,.1f}", va="center", color=INK)
