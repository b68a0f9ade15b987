"""Code shared by the deep dives: --out, saved figures, and claims that are checked."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _one_line import run, writable

__all__ = ["DeepDive", "run"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py, under any MPLBACKEND


class DeepDive:
    """One run of a script.  `end()` returns its exit code: 0 if every claim holds, else 1."""

    def __init__(
        self,
        about: str,
        argv: Sequence[str] | None = None,
        add_arguments: Callable[[ArgumentParser], object] = lambda parser: None,
    ) -> None:
        parser = ArgumentParser(description=about.splitlines()[0])
        parser.add_argument("--out", type=Path, default=Path("runs/deep_dives"), help="where figures go [%(default)s]")
        add_arguments(parser)
        self.options = parser.parse_args(argv)
        self.out: Path = writable(self.options.out)
        self.claims: list[bool] = []

    def claim(self, what: str, holds: bool) -> None:
        self.claims.append(bool(holds))
        print(f"  [{'holds' if holds else 'FAILS'}] {what}")

    def save(self, figure: Figure, name: str, title: str) -> None:
        """Save a figure with a legend below and a title that says what to see."""
        from nanograd_gpt.viz.plots import add_legend, save_figure, style  # not at the top: 01 needs no matplotlib

        with style():
            figure.suptitle(title)
            add_legend(figure, *figure.axes)
        for path in save_figure(figure, self.out / name):
            print(f"wrote {path}")

    def end(self, summary: str) -> int:
        failed = self.claims.count(False)
        if failed or not self.claims:
            print(f"failed: {failed} of {len(self.claims)} claims do not hold")
            return 1
        print(f"checked: {summary} ({len(self.claims)} claims)")
        return 0
