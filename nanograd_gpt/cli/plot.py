"""Redraw a run's figures and report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .figures import write_figures
from .options import add_model_path, model_path


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser, "RUN", "a run's directory, which the figures and report.html go to")


def run(options: Namespace) -> int:
    for path in write_figures(model_path(options, "run")):
        print(path)
    return 0
