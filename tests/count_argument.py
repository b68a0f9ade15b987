"""The arguments of the programs in tests/: numbers of trials and the like."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence


def count_arguments(doc: str | None, argv: Sequence[str] | None = None, **defaults: int) -> list[int]:
    """Parse the command line of a program with this docstring: whole numbers >= 0, named as the defaults are."""
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(name, nargs="?", type=_whole, default=default, metavar=name, help=f"[{default}]")
    return list(vars(parser.parse_args(sys.argv[1:] if argv is None else argv)).values())


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError
    return int(text)


_whole.__name__ = "whole number"  # in argparse's message
