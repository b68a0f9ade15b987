"""Control characters of a prompt, a path or a file: escaped on a terminal and in messages, kept in files and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import fails, nanograd, works

from nanograd_gpt.cli.terminal import EscapingStream, escaped, unescaped

pty = pytest.importorskip("pty", reason="terminals are POSIX's")

ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc"
SHOWN = "\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\u202eabc"


def on_terminal(*argv: object) -> str:
    """Run a command with a terminal as stdout and stderr; returns what it printed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nanograd_gpt", *map(str, argv)]
    env = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 1 << 16):
            printed += piece
    except OSError:  # Linux's end of a terminal
        pass
    finally:
        os.close(ours)
    running.wait(timeout=60)
    return printed.decode().replace("\r\n", "\n")


def test_each_control_character_but_tab_and_line_ends_is_escaped() -> None:
    controls = [chr(i) for i in (*range(32), *range(127, 160)) if chr(i) not in "\t\n"]
    assert all(escaped(c).isascii() and escaped(c).isprintable() for c in controls)
    assert escaped(ESCAPE) == SHOWN
    for text in ("a\tb\n", "a\r\nb", "é世 \N{FAMILY} \u200d", "\\x1b"):
        assert escaped(text) == text


def test_a_stream_escapes_what_is_written_and_nothing_else(tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w+", encoding="utf-8") as file:
        stream = EscapingStream(file)
        print(ESCAPE, end="", file=stream)
        stream.writelines(["\x1b", "x"])
        print("\x1b[1m", end="", file=unescaped(stream))
        stream.flush()
        assert (stream.fileno(), stream.encoding, unescaped(file)) == (file.fileno(), "utf-8", file)
        file.seek(0)
        assert file.read() == SHOWN + "\\x1bx" + "\x1b[1m"


@pytest.mark.parametrize("more", [[], ["--beams", 2], ["--beams", 2, "--n-best", 2]], ids=["greedy", "beams", "n best"])
def test_generated_text_is_escaped_on_a_terminal_and_raw_in_a_pipe(trained: Path, more: list[object]) -> None:
    command = ["generate", trained, "--prompt", ESCAPE[:12], "--max-new-tokens", 2, *more]
    assert ESCAPE[:12] in works(*command)
    shown = on_terminal(*command)
    assert escaped(ESCAPE[:12]) in shown
    assert not {*"\x1b\x07\x9b"} & {*shown}


def test_explain_next_has_only_colours_of_its_own_on_a_terminal(trained: Path) -> None:
    shown = on_terminal("explain-next", trained, "--prompt", "th\x1b[2J e", "--top", 1)
    assert "\x1b[2J" not in shown
    assert "\\x1b" in shown
    assert "\x1b[48;5;" in shown


def test_messages_have_no_control_characters_anywhere(tmp_path: Path, trained: Path) -> None:
    message = fails("generate", tmp_path / "a\x1b[2Jb\x9bc")
    assert "a\\x1b[2Jb\\x9bc" in message
    assert message.isprintable()
    result = nanograd("info", "--config", tmp_path / "\x1b[2J.toml")
    assert "\x1b" not in result.err
    assert "\x1b" not in on_terminal("evaluate", trained, "--data", tmp_path / "\x1b[2J.txt")


def test_the_name_of_a_text_is_escaped_on_a_terminal(tmp_path: Path, trained: Path, data: Path) -> None:
    path = tmp_path / "te\x1b[2Jxt"
    path.write_bytes(data.read_bytes())
    shown = on_terminal("evaluate", trained, "--data", path)
    assert "te\\x1b[2Jxt" in shown
    assert "\x1b" not in shown
