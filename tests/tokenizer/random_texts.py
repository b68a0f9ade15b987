"""Random Unicode texts: every plane, combining marks, control characters, lone spaces, words, special tokens' names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SPACES = [" ", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\x85"]
MARKS = ["\u0301", "\u0308", "\u20e3", "\ufe0f", "\u200d", "\u0940", "\u3099"]
WORDS = ["the", " mill", "house", "'s", "'LL", "DON'T", "7", " 1899", "...", "?!", "\U0001f414", "\u6f22\u5b57"]
PIECES = 8  # at most, in one text


def random_texts(n: int, special: Sequence[str], seed: int = 0) -> list[str]:
    """Draw n texts; parts of special tokens' names occur as well."""
    rng = np.random.default_rng(seed)
    names = [*special, "<|endoftext|>", *(name[:-1] for name in special)]

    def piece() -> str:
        match rng.integers(8):
            case 0:
                return str(rng.choice(SPACES))
            case 1:
                return str(rng.choice(MARKS))
            case 2 | 3:
                return str(rng.choice(WORDS))
            case 4:
                return chr(rng.choice([*range(0x20), 0x7F, *range(0x80, 0xA0)]))
            case 5:
                return str(rng.choice(names))
            case _:
                return "".join(map(character, rng.integers(17, size=rng.integers(1, 4))))

    def character(plane: int) -> str:
        code = 0x10000 * plane + int(rng.integers(0x10000))
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)  # a lone surrogate has no UTF-8

    return ["".join(piece() for _ in range(rng.integers(1, PIECES + 1))) for _ in range(n)]
