"""Run a command, and report a failure in one line: exit code 2 for bad input, 1 for a failed run.

3 is for numbers that are nan or infinite, and 128 + N for signal N, as shells have it.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter, Namespace
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper
from logging import ERROR, getLogger
from textwrap import wrap
from typing import Any, NoReturn

from tqdm import tqdm

from ..environment import own_version
from ..errors import InputError
from ..parallel.launched import launched
from ..parallel.ranks import ALONE, Ranks
from . import (
    bench,
    convert,
    diff_backends,
    evaluate,
    explain_next,
    explore,
    generate,
    gradcheck,
    info,
    learn,
    plot,
    train,
)
from .exit_code import exit_code_of
from .naming import located, settings_file
from .options import note
from .synonyms import COMMANDS as OTHER_COMMANDS
from .synonyms import translate
from .terminal import open_missing_streams
from .together import run_together
from .unknown import command_hint, unknown_argument

COMMANDS = {
    "train": train,
    "generate": generate,
    "evaluate": evaluate,
    "explain-next": explain_next,
    "explore": explore,
    "gradcheck": gradcheck,
    "info": info,
    "plot": plot,
    "convert": convert,
    "bench": bench,
    "diff-backends": diff_backends,
    "learn": learn,
}

ABOUT = (
    "GPT pretraining from scratch, on NumPy or CuPy.  Exit codes: 2 for bad input, 1 for a failed run, 3 for nan or "
    "infinity, 128 + N for signal N."
)
NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|-inf|-nan", re.IGNORECASE)


class Formatter(HelpFormatter):
    """HelpFormatter that keeps words with hyphens, and defaults such as [tiny: 0.1], on one line.

    A default that the help of an option does not tell is appended.
    """

    def format_help(self) -> str:
        self._action_max_length += 2  # argparse does not count the indentation of subcommands
        return super().format_help()

    def _get_help_string(self, action: Action) -> str | None:
        text = action.help
        told = text is None or "[" in text or not action.option_strings or action.nargs == 0
        return text if told or action.default in (None, SUPPRESS) else f"{text} [%(default)r]"

    def _split_lines(self, text: str, width: int) -> list[str]:
        text = re.sub(r"\[(\w+): (\S+)\]", "[\\1:\0\\2]", " ".join(text.split()))
        return [line.replace("\0", " ") for line in wrap(text, width, break_on_hyphens=False)]


class Parser(ArgumentParser):
    """ArgumentParser that raises InputError, and takes --prompt=-- for a prompt, as Python's own does from 3.13 on."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=Formatter, allow_abbrev=False)
        self._negative_number_matcher = NEGATIVE_NUMBER  # argparse's own takes -1e-3 for an option

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ["--"]:
            return self._get_value(action, "--")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        ignored = re.fullmatch(r"argument (.*): ignored explicit argument (.*)", message, re.DOTALL)
        if ignored:
            message = f"argument {ignored[1]}: takes no value, and got {ignored[2]}"
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code.  Of several processes that mpiexec started, rank 0 runs it."""
    open_missing_streams()
    tqdm.monitor_interval = 0  # no thread of its own, which it warns of if none can be had
    getLogger("matplotlib").setLevel(ERROR)  # without a cache of its own it only takes longer
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # for samples the terminal cannot encode, and input that is not UTF-8
    given, place = list(sys.argv[1:] if argv is None else argv), launched()
    if place is None:
        return exit_code_of(partial(_run, given, ALONE))
    return run_together(place, partial(_run, given))


def _run(argv: list[str], ranks: Ranks) -> int:
    parser, parsers = _parsers()
    if "_ARGCOMPLETE" in os.environ and "COMP_LINE" in os.environ:  # the shell asks for completions
        _complete(parser)
    if argv[:1] == ["help"]:
        of = [word for word in argv[1:] if word not in ("help", "--help", "-h")]
        if len(of) > 1:
            raise InputError(f"help: {of[1]!r} is one argument too many; give one command: nanograd-gpt help {of[0]}")
        argv = [*of, "--help"]
    if argv and (argv[0] in OTHER_COMMANDS or not argv[0].startswith("-")) and argv[0] not in COMMANDS:
        raise InputError(f"command: {argv[0]!r} is unknown{command_hint(argv[0], [*COMMANDS, 'help'])}")
    command = argv[0] if argv and argv[0] in COMMANDS else None
    chosen = parser if command is None else parsers[command]
    known = [name for action in chosen._actions for name in action.option_strings if name.startswith("--")]
    argv, notes = translate(argv, known)
    if command is None and argv[:1] and argv[0] not in (*known, "-h"):
        raise unknown_argument(argv[:1], argv, command, known, list(COMMANDS))
    if command is None:
        _, unknown = parser.parse_known_args(argv)
        if not unknown:
            parser.print_help()
            return 0
    else:  # intermixed: a positional argument may follow options
        options, unknown = chosen.parse_known_intermixed_args(argv[1:], Namespace(command=command, ranks=ranks))
    if unknown:
        raise unknown_argument(unknown, argv, command, known, list(COMMANDS))
    for text in notes:
        note(text)
    if ranks.size > 1 and options.command != "train":
        raise InputError(f"{options.command}: only train runs in several processes; start this one without mpiexec")
    try:
        return COMMANDS[options.command].run(options)
    except InputError as error:
        raise InputError(located(str(error), chosen, argv, settings_file(options))) from None


def _complete(parser: Parser) -> None:
    """Answer a shell's request for completions and exit, if argcomplete is installed."""
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(prog="nanograd-gpt", description=ABOUT)
    version = own_version() or "from a source tree that is not installed"
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    parsers = {}
    for name, module in COMMANDS.items():
        text = module.__doc__ or ""
        parsers[name] = subparsers.add_parser(name, help=text.partition("\n")[0], description=" ".join(text.split()))
        module.add_arguments(parsers[name])
        positional = parsers[name]._get_positional_actions()
        arguments = [f"[{action.metavar} ...]" if action.nargs == "*" else str(action.metavar) for action in positional]
        parsers[name].usage = " ".join(["%(prog)s", *arguments, "[options]"])
    helper = subparsers.add_parser("help", help="Show the help of a command.")
    helper.add_argument("of", nargs="?", metavar="COMMAND", choices=list(COMMANDS))
    return parser, parsers
