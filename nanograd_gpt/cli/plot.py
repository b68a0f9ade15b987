"""Redraw a run's figures and report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..files import full_disk_named
from .figures import write_figures
from .options import add_model_path, model_path


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser, "RUN", "a run's directory, which the figures and report.html go to")


def run(options: Namespace) -> int:
    run = model_path(options, "run")
    with full_disk_named(run):
        for path in write_figures(run):
            print(path)
    return 0
