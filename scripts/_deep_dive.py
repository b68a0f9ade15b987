"""Code shared by the deep dives: their options, claims that are checked, and saved figures.

A deep dive is a file of cells, `# %%`, which runs as a script, and which editors and Jupyter open as a notebook.
"""

from __future__ import annotations

import builtins
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _one_line import Parser, run, writable

__all__ = ["DeepDive", "run"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py, under any MPLBACKEND


class DeepDive:
    """One run of a deep dive.

    about               the script's __doc__, which --help prints
    argv                arguments [the command line's; none in a notebook, whose command line is not the script's]
    add_arguments       adds a script's own options to the parser

    `fast` says whether --fast was given; in a notebook, DeepDive(__doc__, ["--fast"]) gives it.
    """

    def __init__(
        self,
        about: str | None,
        argv: Sequence[str] | None = None,
        add_arguments: Callable[[ArgumentParser], object] = lambda parser: None,
    ) -> None:
        parser = Parser(description=about, formatter_class=RawDescriptionHelpFormatter)
        parser.add_argument("--fast", action="store_true", help="smaller sizes, for a first look")
        parser.add_argument("--out", type=Path, default=Path("runs/deep_dives"), help="where figures go [%(default)s]")
        add_arguments(parser)
        self.options = parser.parse_args([] if argv is None and in_notebook() else argv)
        self.fast: bool = self.options.fast
        self.out: Path = writable(self.options.out)
        self.claims: list[bool] = []

    def claim(self, what: str, holds: bool) -> None:
        """Print a claim, and whether it holds."""
        self.claims.append(bool(holds))
        print(f"  [{'holds' if holds else 'FAILS'}] {what}")

    def save(self, figure: Figure, name: str, title: str) -> Figure:
        """Save a figure with a legend below and a title that says what to see; returns it, for a notebook to show."""
        from nanograd_gpt.viz.figure_files import save_figure  # not at the top: 01 needs no matplotlib
        from nanograd_gpt.viz.plots import add_legend, style

        with style():
            figure.suptitle(title)
            add_legend(figure, *figure.axes)
        for path in save_figure(figure, self.out / name):
            print(f"wrote {path}")
        return figure

    def end(self, summary: str) -> None:
        """Print whether all claims hold; if not, a script exits with 1."""
        failed = self.claims.count(False)
        if self.claims and not failed:
            print(f"checked: {summary} ({len(self.claims)} claims)")
            return
        print(f"failed: {failed} of {len(self.claims)} claims do not hold")
        if not in_notebook():
            sys.exit(1)


def in_notebook() -> bool:
    """Whether IPython runs this: in Jupyter, in an editor's cells, or in its own terminal."""
    return hasattr(builtins, "__IPYTHON__")
