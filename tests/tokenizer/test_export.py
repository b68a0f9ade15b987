"""Files that save_pretrained writes for transformers: equal to stored ones that transformers read, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time

import pytest
from goldens.make_export_goldens import PADDING, cases, exported

from nanograd_gpt.tokenizer.byte_level import parts_below
from nanograd_gpt.tokenizer.encoding import encode, end_of_text, padding_ids, token_bytes
from nanograd_gpt.tokenizer.export import tokenizer_files
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, train_tokenizer
from nanograd_gpt.training.sources import pretrained_tokenizer

from .random_texts import random_texts

GOLDENS = Path(__file__).parents[1] / "goldens"
FILES = [
    "config.json",
    "generation_config.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]


@pytest.mark.parametrize("name", cases())
def test_the_files_are_those_that_transformers_read(name: str, tmp_path: Path) -> None:
    tokenizer, stored = cases()[name], GOLDENS / f"exported_{name}"
    written = exported(tmp_path / "out", tokenizer)
    assert sorted(file.name for file in written.iterdir()) == sorted([*FILES, "model.safetensors"])
    for file in FILES:
        assert (written / file).read_bytes() == (stored / file).read_bytes(), file
    encoded = json.loads((stored / "encoded.json").read_text(encoding="utf-8"))
    assert encoded
    assert [encode(text, tokenizer) for text, _ in encoded] == [ids for _, ids in encoded]


@pytest.mark.parametrize("file", ["tokenizer.json", "vocab.json"])
@pytest.mark.parametrize("name", cases())
def test_either_form_of_the_tokenizer_is_read_back(name: str, file: str, tmp_path: Path) -> None:
    tokenizer, directory = cases()[name], exported(tmp_path / "out", cases()[name])
    again = get_tokenizer(directory / file)
    assert token_bytes(again) == token_bytes(tokenizer)
    assert again._special_tokens == tokenizer._special_tokens
    assert end_of_text(again) == end_of_text(tokenizer)
    n = tokenizer.n_vocab + PADDING
    assert padding_ids(again, n).tolist() == padding_ids(tokenizer, n).tolist()


@pytest.mark.parametrize("name", cases())
def test_ten_thousand_texts_have_the_same_ids_after_reading_back(name: str, tmp_path: Path) -> None:
    tokenizer = cases()[name]
    again = pretrained_tokenizer(exported(tmp_path / "out", tokenizer))
    texts = random_texts(10_000, [*tokenizer._special_tokens])
    differing = [text for text in texts if encode(text, again) != encode(text, tokenizer)]
    assert differing == []


def test_the_random_texts_have_every_kind_of_character() -> None:
    texts = random_texts(10_000, ["</s>"])
    assert {ord(character) >> 16 for text in texts for character in text} == {*range(17)}
    assert {"\x00", "\x7f", "\u0301", "\u200d"} <= {character for text in texts for character in text}
    assert {" ", "</s>", "</s"} <= {*texts}


def test_generation_stops_and_leaves_out_ids_as_here() -> None:
    tokenizer = cases()["special"]
    written = json.loads((GOLDENS / "exported_special" / "generation_config.json").read_text(encoding="utf-8"))
    assert written["eos_token_id"] == end_of_text(tokenizer)
    assert written["suppress_tokens"] == padding_ids(tokenizer, tokenizer.n_vocab + PADDING).tolist()


def test_the_parts_of_a_token_of_thousands_of_bytes_are_found_at_once() -> None:
    tokenizer = train_tokenizer("a" * 80_000, 20)
    ranks = tokenizer._mergeable_ranks
    longest = max(ranks, key=len)
    started = process_time()
    assert [len(part) for part in parts_below(longest, ranks)] == [len(longest) // 2] * 2
    assert len(longest) == 32_768
    assert process_time() - started < 5
    assert tokenizer_files(tokenizer, 8) is not None
