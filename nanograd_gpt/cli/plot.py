"""Draw a run's figures and its report anew."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from .figures import write_figures


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run's directory")


def run(options: Namespace) -> int:
    for path in write_figures(options.run):
        print(path)
    return 0
