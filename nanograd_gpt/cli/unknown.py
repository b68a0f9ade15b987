"""Errors about commands, options and arguments that do not exist: what was meant, where that is likely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ..errors import InputError, did_you_mean
from ..training.corpus import BUILTIN_TEXTS
from ..training.run_directory import checkpoints
from .synonyms import COMMANDS, suggestion

ONE_MODEL = ("evaluate", "generate", "explain-next", "info", "convert")  # commands with a model as an argument
PROMPTED = ("generate", "explain-next")
TEXTS = (".txt", ".md")  # suffixes


def command_hint(command: str, known: Sequence[str]) -> str:
    """The end of the error about an unknown command."""
    if own := COMMANDS.get(command):
        return f"; did you mean nanograd-gpt {own}?"
    return did_you_mean(command, list(known))


def unknown_argument(
    unknown: Sequence[str], argv: Sequence[str], command: str | None, known: Sequence[str], commands: Sequence[str]
) -> InputError:
    """The error about arguments that a command does not take, of which it names the first option, or the first word.

    argv: the whole command line; known: the options of the command, or of the program where none is given.
    """
    program = "nanograd-gpt" if command is None else f"nanograd-gpt {command}"
    first = next((argument for argument in unknown if argument.startswith("-")), unknown[0])
    if command is None:
        later = next((word for word in argv if word in commands), None)
        hint = f"; options go after the command: nanograd-gpt {later} {quote(first)}" if later else ""
    elif first.startswith("-"):
        hint = suggestion(first, known, command)
    else:
        hint = _word_hint(first, argv, command)
    return InputError(f"{program}: {first!r} is unknown{hint or f'; {program} --help lists all options'}")


def _word_hint(word: str, argv: Sequence[str], command: str) -> str:
    """The end of the error about a word that is not an option's value."""
    before = argv[argv.index(word) - 1] if word in argv else ""
    path = Path(word)
    if word == "help":
        return f"; did you mean nanograd-gpt help {command}?"
    if word.lower() in ("true", "false") and before.startswith("--"):
        name = before.removeprefix("--").removeprefix("no-")
        return f"; {before} takes no value; write --{name}, or --no-{name}"
    if command == "train":
        return _train_hint(word, path)
    if command == "evaluate" and _is_text(word, path):
        return f"; did you mean --data {quote(word)}?"
    if command in PROMPTED:
        return f"; did you mean --prompt {quote(word)}?"
    if command in ONE_MODEL:
        return "; one model is expected"
    return ""


def _train_hint(word: str, path: Path) -> str:
    if path.suffix == ".toml":
        return f"; did you mean --config {quote(word)}?"
    if path.suffix == ".py":
        return "; settings are not read from Python files, but from a TOML file: --config FILE.toml"
    if checkpoints(path):
        return f"; did you mean --resume {quote(word)}?"
    return f"; did you mean --data {quote(word)}?" if _is_text(word, path) else ""


def _is_text(word: str, path: Path) -> bool:
    return path.is_file() or path.suffix in TEXTS or word in BUILTIN_TEXTS
