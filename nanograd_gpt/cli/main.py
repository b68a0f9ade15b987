"""Run a command, and report a failure in one line: exit code 2 for bad input, 1 for a failed run."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, HelpFormatter
from collections.abc import Sequence
from io import TextIOWrapper
from textwrap import wrap
from typing import Any, NoReturn

from ..environment import own_version
from ..errors import InputError, RunError, did_you_mean
from . import bench, convert, evaluate, explain_next, generate, gradcheck, info, plot, train
from .synonyms import suggestion, translate

COMMANDS = {
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "explain-next": explain_next,
    "gradcheck": gradcheck,
    "info": info,
    "plot": plot,
    "convert": convert,
    "bench": bench,
}


class Formatter(HelpFormatter):
    """HelpFormatter that keeps words with hyphens, and defaults such as [tiny: 0.1], on one line."""

    def format_help(self) -> str:
        self._action_max_length += 2  # argparse does not count the indentation of subcommands
        return super().format_help()

    def _split_lines(self, text: str, width: int) -> list[str]:
        text = re.sub(r"\[(\w+): (\S+)\]", "[\\1:\0\\2]", " ".join(text.split()))
        return [line.replace("\0", " ") for line in wrap(text, width, break_on_hyphens=False)]


class Parser(ArgumentParser):
    """ArgumentParser that raises InputError."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=Formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # for samples the terminal cannot encode, and input that is not UTF-8
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        return _failed(error, 2)
    except RunError as error:
        return _failed(error, 1)
    except MemoryError as error:
        return _failed(f"out of memory ({error}); use a smaller model, batch or context", 1)
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stderr.close()
        return 1
    except OSError as error:
        return _failed(f"{error.strerror or error}: {error.filename or 'no file'}", 1)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)


def _failed(message: object, code: int) -> int:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise InputError(f"command: {argv[0]!r} is unknown{did_you_mean(argv[0], list(COMMANDS))}")
    parser, parsers = _parsers()
    chosen = parsers[argv[0]] if argv and argv[0] in COMMANDS else parser
    known = [name for action in chosen._actions for name in action.option_strings if name.startswith("--")]
    argv, notes = translate(argv, known)
    options, unknown = parser.parse_known_args(argv)
    if options.command is None and not unknown:
        parser.print_help()
        return 0
    if unknown:
        hint = suggestion(unknown[0], known) or f"; {chosen.prog} --help lists all options"
        raise InputError(f"{chosen.prog}: {unknown[0]!r} is unknown{hint}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return COMMANDS[options.command].run(options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(prog="nanograd-gpt", description="GPT pretraining from scratch, on NumPy or CuPy.")
    version = own_version() or "from a source tree that is not installed"
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    parsers = {}
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        parsers[name] = subparsers.add_parser(name, help=summary, description=summary)
        module.add_arguments(parsers[name])
    return parser, parsers
