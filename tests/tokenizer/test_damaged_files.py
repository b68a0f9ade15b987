"""Tokenizer files that are damaged though their hash is right, or larger than any tokenizer."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.tokenizer.byte_level import MAX_BYTES, MAX_VOCAB
from nanograd_gpt.tokenizer.tokenizer import MAX_MERGES, get_tokenizer, save_tokenizer, train_tokenizer

A = b64encode(b"a").decode()


def sealed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A tokenizer of ours with its content changed, and its hash with it."""
    save_tokenizer(train_tokenizer("the cat and the hat", 5), path)
    document = json.loads(path.read_bytes())
    form = document.pop("format")
    del document["sha256"]
    change(document)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({"format": form, "sha256": digest, **document}), encoding="utf-8")
    return path


def test_a_file_that_is_sealed_again_without_a_change_is_read(tmp_path: Path) -> None:
    assert get_tokenizer(sealed(tmp_path / "t.json", lambda d: None)).encode("the cat")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("pattern"), "'pattern'"),
        (lambda d: d.update(name=3), "its name, pattern and special tokens are not all texts"),
        (lambda d: d.update(pattern="("), "its pattern: "),
        (lambda d: d.update(ranks="abc"), "its ranks and special tokens are not tables"),
        (lambda d: d.update(special_tokens=[1]), "its ranks and special tokens are not tables"),
        (lambda d: d["special_tokens"].update({"": 999}), "are not all texts"),
        (lambda d: d["ranks"].update({A: 98}), "its ids are not whole numbers"),
        (lambda d: d["ranks"].update({A: -1}), "its ids are not whole numbers"),
        (lambda d: d["ranks"].update({A: 2.0}), "its ids are not whole numbers"),
        (lambda d: d["ranks"].update({A: MAX_VOCAB}), f"its ids are not whole numbers 0 .. {MAX_VOCAB - 1}"),
        (lambda d: d["special_tokens"].update(x=2**31 - 1), "its ids are not whole numbers"),
        (lambda d: d["special_tokens"].update(x=97), "each of one token"),
        (lambda d: d["ranks"].pop(A), "it has no token for some bytes"),
        (lambda d: d["ranks"].update({"?": 5000}), "cannot be used"),
        (lambda d: d.update(eot_token=97), "its end of text is not the id of a special token"),
    ],
)  # fmt: skip
def test_content_of_another_type_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    path = sealed(tmp_path / "t.json", change)
    with pytest.raises(InputError) as error:
        get_tokenizer(path)
    assert str(error.value).startswith(f"tokenizer: {str(path)!r} cannot be used (")
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "own.json"])
def test_a_file_above_the_limit_is_refused_with_the_limit(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=f"more than the limit of {MAX_BYTES:,}"):
        get_tokenizer(tmp_path / name)


def test_more_merges_than_ids_are_refused() -> None:
    with pytest.raises(InputError, match=f"n_merges: {MAX_MERGES + 1} is not allowed; choose a whole number 0 .. "):
        train_tokenizer("the cat", MAX_MERGES + 1)
