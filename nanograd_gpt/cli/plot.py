"""Redraw a run's figures and report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..files import writing_named
from .figures import write_figures
from .options import add_model_path, model_path, user_path


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser, "RUN", "a run's directory")
    parser.add_argument(
        "--out", type=user_path, metavar="DIRECTORY", help="where the figures and report.html go [the run's directory]"
    )


def run(options: Namespace) -> int:
    run = model_path(options, "run")
    with writing_named(options.out or run):
        for path in write_figures(run, options.out):
            print(path)
    return 0
