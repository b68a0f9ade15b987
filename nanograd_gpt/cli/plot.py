"""Redraw a run's figures and report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .figures import write_figures
from .options import user_path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=user_path, help="a run's directory")


def run(options: Namespace) -> int:
    for path in write_figures(options.run):
        print(path)
    return 0
