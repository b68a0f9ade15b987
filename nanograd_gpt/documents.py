"""Reading of JSON and TOML from files that may be damaged or hostile.

Whatever the bytes are, a reader returns a document that is safe to check field by field, or raises UnreadableError:
sizes, nesting and numbers are limited, and a key that occurs twice is refused, where Python's parsers keep the last.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from .files import UnreadableError, read_bytes

MAX_BYTES = 1 << 20  # of a file of settings
MAX_DEPTH = 32  # levels of nesting
MAX_INTEGER = 2**64 - 1  # the largest seed
MAX_KEY_PARTS = 16  # of a dotted key, on which tomllib's time is quadratic

_NOT_KEYS = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)  # comments and strings of TOML
_LONG_KEY = re.compile(rf'(?<![\w"-])(?:(?:[\w-]++|"")[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}')


def read_json(path: Path, most: int = MAX_BYTES, largest: int = MAX_INTEGER) -> dict[str, Any]:
    """The JSON object in a file of at most `most` bytes, whose texts all have a UTF-8.  Raises UnreadableError.

    largest: the largest integer.
    """
    raw = read_bytes(path, most)
    document = json_object(raw, largest)
    if b"\\ud" in raw.lower():  # perhaps half of a surrogate pair
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UnreadableError("it has half a character (a lone surrogate)") from None
    return document


def json_object(raw: bytes | str, largest: int = MAX_INTEGER) -> dict[str, Any]:
    """Parse a JSON object.  Raises UnreadableError for anything else."""
    document = parse_json(raw, largest)
    if not isinstance(document, dict):
        raise UnreadableError(f"it holds a {type(document).__name__}; a JSON object is expected")
    return document


def parse_json(raw: bytes | str, largest: int = MAX_INTEGER) -> Any:
    """Parse JSON, with NaN and Infinity as Python writes them.

    Raises UnreadableError for what is not JSON in UTF-8, is nested too deeply, has a number too large or a key twice.
    """
    try:
        document = json.loads(_text(raw), object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise UnreadableError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(f"it is not JSON: {error}") from None
    _check_limits(document, largest)
    return document


def read_toml(path: Path, most: int = MAX_BYTES) -> dict[str, Any]:
    """The TOML document in a file of at most `most` bytes.  Raises UnreadableError."""
    return parse_toml(read_bytes(path, most))


def parse_toml(raw: bytes | str) -> dict[str, Any]:
    """Parse TOML.

    Raises UnreadableError for what is not TOML in UTF-8, is nested too deeply or has a number too large.
    """
    text = _text(raw)
    if _LONG_KEY.search(_NOT_KEYS.sub('""', text)):
        raise UnreadableError(f"it has a key of more than {MAX_KEY_PARTS} parts")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UnreadableError(f"it is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise UnreadableError(f"it is not TOML: {error}") from None
    _check_limits(document)
    return document


def _text(raw: bytes | str) -> str:
    try:
        return raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 text (byte {error.start})") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise UnreadableError(f"the key {twice[:80]!r} occurs twice")
    return table


def _check_limits(document: Any, largest: int = MAX_INTEGER) -> None:
    """Raise UnreadableError for a document that is nested too deeply or has a number that is too large."""
    level, depth = [document], 0
    while level:
        if depth > MAX_DEPTH:
            raise UnreadableError(f"it is nested more than {MAX_DEPTH} levels deep")
        depth += 1
        values = [
            value
            for part in level
            for value in (part.values() if isinstance(part, dict) else part if isinstance(part, list) else (part,))
        ]
        if any(type(value) is int and abs(value) > largest for value in values):
            raise UnreadableError(f"a number is beyond {largest}")
        level = [value for value in values if isinstance(value, dict | list)]
