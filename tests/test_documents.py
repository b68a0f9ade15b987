"""Reading of JSON, TOML and bytes from files that may be damaged or hostile."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from time import process_time

import pytest

from nanograd_gpt.documents import MAX_DEPTH, json_object, parse_json, parse_toml, read_json, read_toml
from nanograd_gpt.files import UnreadableError, read_bytes


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text", ["{}", '{"a": [1, null, "é", {"b": NaN}]}', nested(MAX_DEPTH), str(2**64 - 1)], ids=len
)
def test_json_is_what_pythons_parser_reads(text: str) -> None:

    assert str(parse_json(text)) == str(json.loads(text))
    assert str(parse_json(b"\xef\xbb\xbf" + text.encode())) == str(json.loads(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not JSON"),
        ('{"a": 1', "it is not JSON"),
        (b"\xff", "it is not UTF-8 text (byte 0)"),
        (nested(MAX_DEPTH + 2), "it is nested more than 32 levels deep"),
        ("[" * 100_000, "it is nested more than 32 levels deep"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "the key 'c' occurs twice"),
        ("[18446744073709551616]", "a number is beyond 18446744073709551615"),
        ('{"a": [-18446744073709551616]}', "a number is beyond"),
        ("9" * 5000, "it is not JSON: Exceeds the limit"),
    ],
    ids=["empty", "cut", "latin", "nested", "deep", "twice", "large", "negative", "digits"],
)
def test_json_beyond_a_limit_is_refused_with_the_reason(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as error:
        parse_json(text)
    assert str(error.value).startswith(reason)


def test_a_json_file_holds_an_object_of_whole_characters(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="it holds a list; a JSON object is expected"):
        json_object("[]")
    path = tmp_path / "a.json"
    path.write_text('{"a": "\\ud83d\\ude00"}', encoding="ascii")
    assert read_json(path) == {"a": "\N{GRINNING FACE}"}
    path.write_text('{"a": "\\ud83d"}', encoding="ascii")
    with pytest.raises(UnreadableError, match="half a character"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = 1\na = 2", "it is not TOML"),
        ("a = 1" + "0" * 5000, "it is not TOML: Exceeds the limit"),
        ("a = 0x1" + "0" * 16, "a number is beyond"),
        ("a = " + "[" * 20_000, "it is nested more than 32 levels deep"),
        (f"a = {nested(40)}", "it is nested more than 32 levels deep"),
        ("a." * 30_000 + "a = 1", "it has a key of more than 16 parts"),
        ("[" + "a . " * 30_000 + "a]", "it has a key of more than 16 parts"),
        ("x = {" + "'a'.\"b\"." * 30_000 + "a = 1}", "it has a key of more than 16 parts"),
        ('# """\n' + "a." * 30_000 + 'a = 1\n# """', "it has a key of more than 16 parts"),
        (b"\xff", "it is not UTF-8"),
    ],
    ids=["twice", "digits", "hex", "open", "nested", "key", "table", "inline", "between comments", "latin"],
)
def test_toml_beyond_a_limit_is_refused_at_once(text: str | bytes, reason: str) -> None:
    started = process_time()
    with pytest.raises(UnreadableError) as error:
        parse_toml(text)
    assert str(error.value).startswith(reason)
    assert process_time() - started < 1


@pytest.mark.parametrize(
    "text",
    [
        'a = "' + "b." * 100 + '"',
        "a = '" + "b." * 100 + "'",
        'a = """\n' + "b." * 100 + '"""',
        "# " + "b." * 100 + "\na = 1",
    ],
    ids=["basic", "literal", "multi-line", "comment"],
)
def test_dots_in_texts_and_comments_of_toml_are_not_a_key(text: str) -> None:
    assert list(parse_toml(text)) == ["a"]


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(UnreadableError, match=r"it has 1,099,511,627,776 bytes, more than the limit of 1,048,576"):
        read_toml(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")
def test_only_a_regular_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a path of a socket is short
        server.bind("socket")
        for path, kind in (
            (tmp_path / "fifo", "a FIFO (named pipe)"),
            (tmp_path / "link", "a FIFO (named pipe)"),
            (tmp_path / "socket", "a socket"),
            (tmp_path, "a directory"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(UnreadableError) as error:
                read_bytes(path, 10)
            assert str(error.value) == f"it is {kind}, not a regular file"


@pytest.mark.parametrize("name", ["missing", "a" * 300, "a\0b"], ids=["missing", "long", "zero"])
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableError):
        read_bytes(tmp_path / name, 10)
