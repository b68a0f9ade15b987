"""Redraw a run's figures and report, or compare runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from ..files import writing_named
from .figures import write_compared, write_figures
from .options import note, user_path

PAGES = ("comparison.html", "index.html")  # by viz/compare.py and viz/gallery.py


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=user_path, metavar="RUN", help="a run's directory; several to compare")
    parser.add_argument(
        "--model",
        "--weights",
        dest="model_option",
        type=user_path,
        metavar="RUN",
        help="the same as RUN",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="DIRECTORY",
        help="where the figures and report.html go [the run's directory]; of several runs, where comparison.html goes "
        "[comparison, beside the first run]",
    )


def run(options: Namespace) -> int:
    runs: list[Path] = options.runs
    if options.model_option is not None:
        if runs:
            raise InputError(f"model: both {runs[0]} and {options.model_option} are given; leave one out")
        runs = [options.model_option]
    if not runs:
        raise InputError("nanograd-gpt plot: no run is given; name one, for example: nanograd-gpt plot runs/tales")
    if len(runs) > 1:
        runs = [run for run in runs if not _is_page(run)]
    several = len(runs) > 1
    out: Path = options.out or (runs[0].resolve().parent / "comparison" if several else runs[0])
    with writing_named(out):
        for path in write_compared(runs, out) if several else write_figures(runs[0], options.out):
            print(path)
    return 0


def _is_page(directory: Path) -> bool:
    """Whether a directory holds a page by this command or by learn, and no run, which a note says."""
    if any((directory / page).is_file() for page in PAGES) and not (directory / "metrics.jsonl").exists():
        note(f"{directory} holds a page, not a run, and is left out")
        return True
    return False
