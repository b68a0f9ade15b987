"""--help of every command on a terminal of any width."""

from __future__ import annotations

import re

import pytest

from nanograd_gpt.cli.main import COMMANDS, main


@pytest.fixture
def help_of(monkeypatch, capsys):
    """The help of a command in a terminal of some width."""

    def printed(command: list[str], width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*command, "--help"])
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_fits_and_is_wrapped_between_words(command: list[str], width: int, help_of) -> None:
    lines = help_of(command, width).splitlines()
    assert [line for line in lines if len(line) > width] == []
    assert [line for line in lines if re.search(r"\w-$|\[\w+:$", line) and "--prompt" not in line] == []


def test_commands_and_their_summaries_are_side_by_side(help_of) -> None:
    printed = help_of([], 80)
    assert [name for name in COMMANDS if not re.search(rf"^ +{name} +[A-Z]", printed, re.MULTILINE)] == []


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_fits_a_terminal_or_is_in_groups(command: list[str], help_of) -> None:
    printed = help_of(command, 80)
    groups = re.findall(r"^[a-z ]+:$", printed, re.MULTILINE)
    assert len(printed.splitlines()) <= 24 or len(groups) >= 3, printed
