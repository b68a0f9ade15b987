"""The figure of benchmarks/README.md on several hosts: efficiency by hosts, and by the tokens of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_parallel_parts import LINKS, MOST_HOSTS, TOKENS, Link, projected, result

from nanograd_gpt.viz.figure_files import save_figure
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

if TYPE_CHECKING:  # imported at run time by viz/plots.py, under any MPLBACKEND
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = [BLUE, ORANGE, GREEN, PURPLE]
LOOKS = {"overlapped": "-", "plain": "--"}
AT = TOKENS[0]
TICKS = 1, 4, 16, 64, 256, 1024, 4096, 32768


def write_figure(path: Any) -> None:
    """Write the figure as a PNG and an SVG, with light and dark colours."""
    save_figure(efficiency_figure(result("data_parallel.json")), path)


@style()
def efficiency_figure(facts: Mapping[str, Any]) -> Figure:
    """Two panels below each other, legible on a phone."""
    parts = facts["parts"]
    figure = new_figure(6.2)
    by_hosts, by_tokens = figure.subplots(2)
    mark = ": --quick" if facts["quick"] else ""
    hosts = [1 << k for k in range(MOST_HOSTS.bit_length())]
    _panel(by_hosts, hosts, lambda way, link, n: 1.0 if n == 1 else projected(parts, way, link, int(n), AT))
    by_hosts.set_title(f"124M, {AT:,} tokens a host{mark}", loc="left")
    by_hosts.set_xlabel("hosts")
    tokens = [2.0 ** (k / 2) for k in range(12, 31)]
    _panel(by_tokens, tokens, lambda way, link, n: projected(parts, way, link, MOST_HOSTS, n))
    by_tokens.set_title(f"124M, {MOST_HOSTS:,} hosts{mark}", loc="left")
    by_tokens.set_xlabel("tokens of a host in an update")
    for axes in (by_hosts, by_tokens):
        axes.set_ylabel("efficiency")
    lines, labels = by_hosts.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=2)
    return figure


def _panel(axes: Axes, across: Sequence[float], efficiency: Callable[[str, Link, float], float]) -> None:
    for link, color in zip(LINKS, COLORS, strict=True):
        for way, look in LOOKS.items():
            label = link.label if way == "overlapped" else None
            axes.plot(across, [efficiency(way, link, n) for n in across], look, color=color, label=label)
    axes.plot([], [], "-", color=INK, label="overlapped")
    axes.plot([], [], "--", color=INK, label="sums after the pass")
    axes.set_xscale("log", base=2)
    ticks = [n for n in across if n in TICKS]
    axes.set_xticks(ticks, [f"{n:,.0f}" for n in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
