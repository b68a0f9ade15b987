"""A run's figures and report, from its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .options import note


def load_drawing() -> None:
    """Import matplotlib now, so that its memory counts in an estimate."""
    import_module("..viz.plots", __package__)


def check_figures(run: Path) -> None:
    """Render a dummy figure and create the figures' directory, so that errors show before the training."""
    from ..viz.plots import plot_losses, rendered

    rendered(plot_losses([0.0, 1.0], [0, 1], [2.0, 1.0], [2.0, 1.0]), "png")
    (run / "figures").mkdir(parents=True, exist_ok=True)


def write_figures(run: Path, out: Path | None = None) -> list[Path]:
    """Write the loss, perplexity and training figures and report.html into the directory `out` [run]; returns paths.

    Damage to the run's files is noted and passed over.  Raises InputError if the directory does not hold a run.
    """
    from ..viz.figure_files import drawn, write_drawn  # matplotlib is slow to import
    from ..viz.report import write_page
    from ..viz.run_figures import run_figures
    from ..viz.run_files import read_run

    files = read_run(run)
    if files.damage:
        note(files.damage)
    both = {name: drawn(figure) for name, figure in run_figures(files).items()}
    figures = (out or run) / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    written = [path for name, one in both.items() for path in write_drawn(one, figures / name)]
    return [*written, write_page(files, run, out or run, {name: one.svg for name, one in both.items()})]


def write_compared(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write figures and comparison.html of several runs into the directory `out`; returns paths.

    Damage to the runs' files is noted and passed over.  Raises InputError for a run given twice or missing.
    """
    from ..viz.compare import comparison_figures, read_runs, write_comparison
    from ..viz.figure_files import drawn, write_drawn

    found = read_runs(runs)
    for one in found:
        if one.files.damage:
            note(one.files.damage)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    both = {name: drawn(figure) for name, figure in comparison_figures(found).items()}
    written = [path for name, one in both.items() for path in write_drawn(one, figures / name)]
    return [*written, write_comparison(found, out, {name: one.svg for name, one in both.items()})]
