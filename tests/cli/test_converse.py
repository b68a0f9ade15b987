"""nanograd-gpt generate --interactive: lines and continuations in one text, until the end of input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from select import select
from typing import Any

import numpy as np
import pytest
from cli.commands import Result, fails, finished, nanograd, process

from nanograd_gpt.cli.converse import HELP, converse
from nanograd_gpt.generation.streaming import complete
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer
from nanograd_gpt.training.checkpoint import load_model


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command with these lines as input."""

    def run(lines: str, *argv: object) -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return nanograd("generate", *argv, "--interactive")

    return run


def test_each_line_is_answered_with_all_that_came_before_in_mind(
    say: Callable[..., Result], trained: Path, model_file: Path
) -> None:
    result = say("the sun\nan old\n", "--model", trained, "--max-new-tokens", 5)
    model, tokenizer = load_model(model_file), get_tokenizer(trained / "tokenizer.json")

    def answer(text: str) -> str:
        kept = tokenizer.encode(text)[-11:]  # context 16, of which 5 are left for new tokens
        return complete(model, np.array(kept), tokenizer, 5)

    first = answer("the sun\n")
    second = answer(f"the sun\n{first}\nan old\n")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{HELP}\n> {first}\n> {second}\n> \n"


def test_a_prompt_is_answered_before_the_first_line(say: Callable[..., Result], trained: Path) -> None:
    result = say("", "--model", trained, "--max-new-tokens", 3, "--prompt", "the sun")
    assert result.out.startswith(f"{HELP}\nthe sun")
    assert result.out.endswith("\n> \n")


def test_a_conversation_may_be_longer_than_the_context(say: Callable[..., Result], trained: Path) -> None:
    result = say("the sun rose over a quiet river\n" * 5, "--model", trained, "--max-new-tokens", 40)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("> ") == 6


def test_of_a_long_conversation_half_a_context_is_kept_in_mind(
    say: Callable[..., Result], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(model: Any, prompt: Any, *settings: Any, **more: Any) -> Iterator[str]:
        seen.append(prompt.tolist())
        yield "an answer"

    monkeypatch.setattr("nanograd_gpt.cli.generate.complete_stream", watched)
    say("the sun rose\nan old miller\n", "--model", trained, "--max-new-tokens", 40)
    tokens = get_tokenizer(trained / "tokenizer.json").encode("the sun rose\nan answer\nan old miller\n")
    assert seen[1] == tokens[-8:]


def test_a_line_that_is_no_utf8_is_read_all_the_same(trained: Path) -> None:
    running = process(
        "generate", "--model", trained, "--interactive", "--max-new-tokens", 3,
        stdin=subprocess.PIPE, env={"PYTHONIOENCODING": "utf-8:strict"},
    )  # fmt: skip
    assert running.stdin is not None
    running.stdin.buffer.write(b"\xff\xfe the sun\n")
    result = finished(running)
    assert (result.code, result.err) == (0, "")


def test_sampled_answers_differ_and_are_the_seeds(say: Callable[..., Result], trained: Path) -> None:
    options = ["--model", trained, "--max-new-tokens", 8, "--temperature", 3]
    results = [say("the sun\n\n\n", *options, "--seed", seed).out for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]
    answers = results[0].splitlines()[1:4]
    assert len(set(answers)) == 3


def test_settings_are_refused_before_anything_is_asked(say: Callable[..., Result], trained: Path) -> None:
    result = say("the sun\n", "--model", trained, "--top-k", 0)
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: --top-k: 0 is not allowed; choose 1 .. 307 (the vocabulary)\n"


def test_beam_search_is_no_conversation(trained: Path) -> None:
    message = fails("generate", "--model", trained, "--interactive", "--beams", 2)
    assert message.startswith("--beams: a conversation is generated token by token; leave out")


def test_an_empty_line_lets_the_model_write_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def write(text: str) -> Iterator[str]:
        seen.append(text)
        yield from ("an", "swer")

    monkeypatch.setattr("sys.stdin", io.StringIO("\nhello\n\n"))
    converse(write)
    assert seen == ["hello\n", "hello\nanswer"]


def test_ctrl_c_stops_the_answer_and_keeps_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def write(text: str) -> Iterator[str]:
        seen.append(text)
        yield "half"
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO("hello\ngo on\n"))
    converse(write)
    assert seen == ["hello\n", "hello\nhalf\ngo on\n"]
    assert capsys.readouterr().out == f"{HELP}\n> half [stopped]\n> half\n> \n"


@pytest.mark.skipif(
    find_spec("pty") is None or find_spec("readline") is None, reason="no terminals or no readline here"
)
def test_a_line_at_a_terminal_is_edited_and_recalled() -> None:
    import pty

    ours, theirs = pty.openpty()
    code = "from nanograd_gpt.cli.converse import converse; converse(lambda text: [repr(text)])"
    command, env = [sys.executable, "-c", code], {**os.environ, "TERM": "xterm", "INPUTRC": os.devnull}

    def await_shown(text: bytes) -> None:
        shown = b""
        while text not in shown:
            assert select([ours], [], [], 30)[0], shown
            shown += os.read(ours, 1)

    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as running:
        os.close(theirs)
        try:
            await_shown(b"> ")
            os.write(ours, b"sun\x01the \n")  # after Ctrl-A, which goes to the line's start
            await_shown(b"'the sun\\n'")
            await_shown(b"> ")
            os.write(ours, b"\x1b[A\n")  # the key up
            await_shown(b'\\nthe sun\\n"')  # of which the answer before has quotes
            await_shown(b"> ")
            os.write(ours, b"\x04")
            assert running.wait(timeout=30) == 0
        finally:
            running.kill()
            os.close(ours)
