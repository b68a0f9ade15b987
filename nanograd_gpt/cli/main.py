"""Find the command, run it, and turn every failure into one line: exit code 2 for bad input, 1 for a failed run."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

from ..environment import own_version
from ..errors import InputError, RunError, did_you_mean
from . import bench, convert, evaluate, explain_next, generate, gradcheck, info, plot, train

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


class Parser(ArgumentParser):
    """argparse, with its errors as ours."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sample may hold what the terminal cannot show, a line no UTF-8
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        return _failed(error, 2)
    except RunError as error:
        return _failed(error, 1)
    except MemoryError as error:
        return _failed(f"out of memory ({error}); use a smaller model, batch or context", 1)
    except BrokenPipeError:  # whoever read our output has gone
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
    options, unknown = parser.parse_known_args(argv)
    if options.command is None and not unknown:
        parser.print_help()
        return 0
    if unknown:
        chosen = parsers.get(options.command, parser)
        known = [s for action in chosen._actions for s in action.option_strings if s.startswith("--")]
        raise InputError(f"{chosen.prog}: {unknown[0]!r} is unknown{did_you_mean(unknown[0].split('=')[0], known)}")
    return COMMANDS[options.command].run(options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="nanograd-gpt",
        description="GPT pretraining from scratch, on NumPy or CuPy.",
        allow_abbrev=False,
    )
    version = own_version() or "from a source tree that is not installed"
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    parsers = {}
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        parsers[name] = subparsers.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(parsers[name])
    return parser, parsers
