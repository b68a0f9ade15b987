"""The name of a setting in an error as the user gave it: as an option, or with the file that it is from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from ..training.config import from_toml
from ..training.find_checkpoint import run_of
from .options import flag_of

OTHER_NAMES = {"model": "--init-from"}  # a model's errors in train, where it is not called --model


def located(message: str, parser: ArgumentParser, argv: list[str], file: Path | None) -> str:
    """An error "name: ..." with the name as an option, if `argv` has it; else with the settings' file, if it has it.

    argv: a command's arguments, with its own names of options; file: a TOML file with settings, or None.
    """
    name, colon, rest = message.partition(": ")
    typed = _typed(name, parser, argv)
    if typed is not None:
        return f"{typed}: {rest}"
    if file is not None and colon and _has(file, name):
        return f"{name} in {file}: {rest}"
    return message


def settings_file(options: Namespace) -> Path | None:
    """The TOML file that a command reads settings from."""
    if getattr(options, "resume", None) is not None:
        return run_of(Path(options.resume)) / "config.toml"
    return getattr(options, "config", None)


def _typed(name: str, parser: ArgumentParser, argv: list[str]) -> str | None:
    """The option of a setting as it was typed, such as --weights for "model"; None if it was not."""
    flags = {flag_of(name), OTHER_NAMES.get(name)}
    actions = [action.option_strings for action in parser._actions if flags & {*action.option_strings}]
    names = [option for options in actions for option in options]
    return next((word for argument in reversed(argv) if (word := argument.partition("=")[0]) in names), None)


def _has(file: Path, name: str) -> bool:
    """Tell whether a setting is in a file; an unknown one, which an error calls "setting", can only be there."""
    try:
        return name == "setting" or name in from_toml(file)
    except InputError:
        return False
