"""The wording of docstrings, comments and messages."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from project_files import short, sources

OPENINGS = re.compile(r"(What|Where|Of|Within|When|How|Whose)\b(?!.*\?)")  # of a clause; a question is fine

PHRASES = re.compile(
    r"(?<!there )\b(is|are|was|were) no\b(?! longer)"  # "is not a"
    r"|\bwhoever\b|\breckon\w*|\btold of\b|\bby heart\b|\bfor good\b|\bnothing of use\b|\bbe it\b"
    r"|\bmay not be\b|\bwhat comes\b|\b(none|nothing) of our business\b|\bas (it|they) likes?\b",
    re.IGNORECASE,
)
WORDS = re.compile(r"[A-Za-z][a-z]+[a-z' ,:;-]+$")  # neither a formula nor a shape
TEXT = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}  # the last one from Python 3.12 on
BETWEEN = {tokenize.NL, *(getattr(tokenize, f"FSTRING_{part}", -1) for part in ("START", "END"))}


@cache
def first_lines(path: Path) -> list[str]:
    """The first line of every docstring."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    return [text.splitlines()[0] for node in nodes if (text := ast.get_docstring(node))]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and string literals with their lines; neighbours are joined, as a sentence may go on in the next."""
    line, text = 0, ""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in TEXT:
                line = line if text else token.start[0]
                text += " " + token.string.lstrip("#").strip("\"'f")
            elif token.type not in BETWEEN and text:
                yield line, " ".join(text.split())
                text = ""


def findings(path: Path) -> list[str]:
    """The phrases to avoid in a file, each with its line."""
    return [f"line {line}: {found[0]!r} in {text!r}" for line, text in texts(path) for found in PHRASES.finditer(text)]


def docstrings_that_open(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """The first lines of docstrings that a pattern matches, each with its file."""
    lines = [(path, line) for path in paths for line in first_lines(path)]
    return [f"{short(path)}: {line}" for path, line in lines if pattern.match(line)]


def test_a_docstring_begins_with_a_noun_or_an_imperative_verb() -> None:
    assert docstrings_that_open(OPENINGS, sources()) == []


others = [path for path in sources() if path != Path(__file__)]  # this file quotes the phrases


def test_a_docstring_of_words_ends_with_a_stop() -> None:
    assert docstrings_that_open(WORDS, others) == []


def test_comments_docstrings_and_messages_avoid_phrases_that_read_badly() -> None:
    assert [f"{short(path)}, {found}" for path in others for found in findings(path)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("# a loss that is no number", "is no"),
        ('"""Weights that\n\nare no\nnumbers."""', "are no"),
        ('x = f"{y} is " "no directory"', "is no"),
        ("# whoever\nx = 1", "whoever"),
        ("# a file that is\n# no file", "is no"),
        ("# there is no file, and the file is no longer there", None),
        ('x = "its not" if x else "is now"', None),
    ],
)
def test_a_phrase_is_found_wherever_it_stands(tmp_path: Path, source: str, found: str | None) -> None:
    (tmp_path / "m.py").write_text(source, encoding="utf-8")
    lines = findings(tmp_path / "m.py")
    assert [line.split("'")[1] for line in lines] == ([found] if found else [])
