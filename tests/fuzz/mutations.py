"""Damage to files, which random numbers determine: to bytes, and to the content of JSON, TOML and headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = [
    "0",
    "-1",
    "1e999",
    "-1e999",
    "NaN",
    "1.5",
    "9" * 400,
    "9" * 5000,
    str(2**31),
    str(2**63),
    str(2**64),
    "1e-320",
]
TEXTS = [
    "",
    "\0",
    "\x1b]0;x\x07",
    "\\ud800",
    "x" * 70_000,
    "../../etc/passwd",
    "é" * 300,
    "gpt2",
    "/dev/zero",
    "\u202e",
]
OTHERS: list[Any] = [None, True, [], {}, [[]], [1, "a"], {"a": {"b": 1}}, "x", 7, 0.25, -3]


# --- bytes


def cut(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw) + 1)]


def flip(raw: bytes, random: Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(random.choice([1, 1, 1, 2, 8])):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(raw: bytes, random: Random) -> bytes:
    at, n = random.randrange(len(raw) + 1), random.choice([1, 4, 8, 64])
    return raw[:at] + random.choice([random.randbytes(n), b"\0" * n, b"\xff" * n]) + raw[at + n :]


def insert(raw: bytes, random: Random) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + random.choice([b"\0", b"\xff\xfe", b"[" * 3000, b"\n\n", b"9" * 5000, b"\x1b[2J"]) + raw[at:]


def drop(raw: bytes, random: Random) -> bytes:
    at, n = random.randrange(len(raw) + 1), random.choice([1, 2, 16, 300])
    return raw[:at] + raw[at + n :]


def twice(raw: bytes, random: Random) -> bytes:
    at, n = random.randrange(len(raw) + 1), random.choice([1, 8, 100, 5000])
    return raw[: at + n] + raw[at:]


def instead(raw: bytes, random: Random) -> bytes:
    others = [
        b"",
        b" ",
        b"\n" * 9,
        b"{}",
        b"[]",
        b"null",
        b"[" * 60_000,
        b'{"a":' * 60_000,
        b"PK\x03\x04",
        b"\x80\x04\x95",
    ]
    others += [random.randbytes(500), b"\0" * 5000, b"a." * 30_000 + b"a = 1", b"a = " + b"[" * 30_000, b"[]," * 50_000]
    others += [bytes([255] * 7 + [127]) + b"{}", b"\x08" + b"\0" * 7 + b"{}" + b" " * 6]
    return random.choice(others)


def recoded(raw: bytes, random: Random) -> bytes:
    text = raw.decode("latin-1")
    return random.choice(
        [text.encode("utf-16"), text.encode("utf-8"), b"\xef\xbb\xbf" + raw, raw.replace(b"\n", b"\r")]
    )


OF_BYTES: list[Mutation] = [cut, flip, flip, overwrite, insert, drop, twice, instead, recoded]


# --- documents


def places(document: Any) -> list[tuple[Any, Any]]:
    """The containers in a document, each with each of its keys."""
    found, rest = [], [document]
    while rest:
        part = rest.pop()
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
        found += [(part, key) for key in keys]
        rest += [part[key] for key in keys]
    return found


def mutated_document(document: Any, random: Random) -> Any:
    """Change a document in one to three places: another type or value, a missing, renamed or added key."""
    for _ in range(random.choice([1, 1, 2, 3])):
        found = places(document)
        if not found:
            return random.choice(OTHERS)
        part, key = random.choice(found[: random.choice([3, 30, len(found)])])
        match random.randrange(6):
            case 0:
                part.pop(key)
            case 1:
                part[key] = random.choice(OTHERS)
            case 2:
                part[key] = Number(random.choice(NUMBERS))
            case 3:
                part[key] = random.choice(TEXTS)
            case 4:
                part[key] = nested(random.choice([5, 40, 300]))
            case _ if isinstance(part, dict):
                part[random.choice(TEXTS)[:80]] = part.pop(key) if random.random() < 0.5 else part[key]
            case _:
                part[key:key] = [part[key]] * random.choice([1, 50])
    return document


class Number(str):
    """A number as it is written, for JSON."""


def nested(depth: int) -> Any:
    document: Any = 1
    for _ in range(depth):
        document = [document]
    return document


def dumped(document: Any) -> str:
    """Write JSON, with Numbers as they are."""
    if isinstance(document, Number):
        return str(document)
    if isinstance(document, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumped(value)}" for key, value in document.items()) + "}"
    if isinstance(document, list):
        return "[" + ", ".join(map(dumped, document)) + "]"
    return json.dumps(document)


def of_json(raw: bytes, random: Random) -> bytes:
    return dumped(mutated_document(json.loads(raw), random)).encode()


def of_lines(raw: bytes, random: Random) -> bytes:
    """Change one line that is a JSON document, or the order of the lines."""
    lines = raw.splitlines(keepends=True)
    at = random.randrange(len(lines))
    if random.random() < 0.1:
        random.shuffle(lines)
    else:
        lines[at] = of_json(lines[at], random) + b"\n"
    return b"".join(lines)


def of_toml(raw: bytes, random: Random) -> bytes:
    """Change the value or the key of one line, or repeat it."""
    lines = raw.decode().splitlines()
    at = random.randrange(len(lines))
    key = lines[at].partition(" = ")[0]
    values = [
        *NUMBERS,
        "nan",
        "inf",
        '"x"',
        "true",
        "[]",
        "{}",
        "[" * 200,
        "1979-05-27",
        "'" + "x" * 9000 + "'",
        "{a = 1}",
    ]
    values += ["0x" + "f" * 900, '"""\n"""', '"\\u0000"', "1_0", "[1, [2, [3]]]"]
    lines[at] = random.choice(
        [
            f"{key} = {random.choice(values)}",
            f"{lines[at]}\n{lines[at]}",
            f"{key}s = 1",
            f"[{key}]",
            f"{'a.' * 300}{key} = 1",
        ]
    )
    return "\n".join(lines).encode()


def of_header(raw: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file."""
    size = int.from_bytes(raw[:8], "little")
    text = of_json(raw[8 : 8 + size], random)
    length = len(text) if random.random() < 0.9 else random.choice([0, 2**63, len(text) - 1, len(text) + 8, 2**40])
    return length.to_bytes(8, "little") + text + raw[8 + size :]
