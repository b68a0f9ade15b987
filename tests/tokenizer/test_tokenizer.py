"""Tokenizers: GPT-2's against published facts, our own through training, text and file; and the story they train on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken

from nanograd_gpt.errors import InputError
from nanograd_gpt.tokenizer import tokenizer as module
from nanograd_gpt.tokenizer.bpe import END_OF_TEXT
from nanograd_gpt.tokenizer.tokenizer import (
    get_tokenizer,
    save_tokenizer,
    text_to_token_ids,
    token_ids_to_text,
    train_tokenizer,
)

PROMPT = "Every effort moves you"
TEXTS = {
    "empty": "",
    "space": " ",
    "ascii": "The bar goes round, the rope comes in.\n\n\t 'tis 1899!  ",
    "accents": "\u00e9 e\u0301 \u00f1 \u00df \u0130 \ufb01",
    "scripts": "\u6f22\u5b57\u304b\u306a \u0639\u0631\u0628\u064a \u0939\u093f\u0928\u0926\u0940",
    "emoji": "\U0001f414 \U0001f469\u200d\U0001f680 \U0001f1f3\U0001f1f1",
    "controls": "\x00\x01\x7f\x85\u2028\ufeff\uffff",
    "every ascii sign": "".join(map(chr, range(128))),
}


@pytest.fixture(scope="module")
def story() -> str:
    return (resources.files("nanograd_gpt") / "assets" / "story.txt").read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def trained(story: str) -> tiktoken.Encoding:
    return train_tokenizer(story)


# --- GPT-2's


def test_gpt2_has_its_published_size_and_last_token() -> None:
    gpt2 = get_tokenizer()
    assert (gpt2.name, gpt2.n_vocab, gpt2.eot_token) == ("gpt2", 50257, 50256)


def test_gpt2_encodes_the_books_prompt_to_the_books_ids() -> None:
    assert get_tokenizer("gpt2").encode(PROMPT) == [6109, 3626, 6100, 345]


def test_gpt2_encodes_the_books_example_with_its_special_token() -> None:
    text = f"Hello, do you like tea? {END_OF_TEXT} In the sunlit terraces"
    ids = text_to_token_ids(text, get_tokenizer())
    assert ids[0].tolist() == [15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114]


def test_gpt2_counts_the_verdict_as_the_book_does() -> None:
    path = Path(os.environ.get("NANOGRAD_TEST_DATA", ".")) / "the-verdict.txt"
    if not path.exists():
        pytest.skip("the-verdict.txt is not in NANOGRAD_TEST_DATA")
    text = path.read_text(encoding="utf-8")
    assert len(text) == 20479
    assert len(get_tokenizer().encode(text)) == 5145


def test_gpt2_is_built_once() -> None:
    assert get_tokenizer() is get_tokenizer("gpt2")


@pytest.mark.parametrize(
    ("change", "complaint"), [(lambda b: b.replace(b" 50255", b" 50254"), "damaged"), (None, "cannot read")]
)
def test_damaged_or_missing_gpt2_ranks_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, complaint: str
) -> None:
    true_ranks = (resources.files("nanograd_gpt") / "assets" / "gpt2.tiktoken").read_bytes()
    (tmp_path / "assets").mkdir()
    if change is not None:
        (tmp_path / "assets" / "gpt2.tiktoken").write_bytes(change(true_ranks))
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    with pytest.raises(InputError, match=f"{complaint}.*reinstall") as caught:
        module._gpt2.__wrapped__()
    assert_one_line(caught.value)


# --- text to ids to text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("which", ["gpt2", "trained", "bytes alone"])
def test_any_text_comes_back_as_it_was(text: str, which: str, trained: tiktoken.Encoding) -> None:
    tokenizer = {"gpt2": get_tokenizer(), "trained": trained, "bytes alone": train_tokenizer("", 0)}[which]
    assert token_ids_to_text(text_to_token_ids(text, tokenizer), tokenizer) == text


@pytest.mark.parametrize("which", ["gpt2", "trained"])
def test_any_bytes_come_back_as_they_were(which: str, trained: tiktoken.Encoding) -> None:
    tokenizer = trained if which == "trained" else get_tokenizer()
    data = bytes(range(256)) + np.random.default_rng(0).bytes(500)
    ids = [tokenizer.encode_single_token(bytes([value])) for value in data]
    assert tokenizer.decode_bytes(ids) == data


def test_ids_are_a_batch_of_one() -> None:
    ids = text_to_token_ids(PROMPT, get_tokenizer())
    assert (ids.shape, ids.dtype) == ((1, 4), np.int64)
    assert text_to_token_ids("", get_tokenizer()).shape == (1, 0)


def test_the_special_token_is_one_id_and_comes_back(trained: tiktoken.Encoding) -> None:
    text = f"The end.{END_OF_TEXT}The beginning"
    ids = text_to_token_ids(text, trained)
    assert ids[0].tolist().count(trained.n_vocab - 1) == 1
    assert token_ids_to_text(ids, trained) == text


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("kind", [list, np.int64, np.int32, np.uint16])
def test_ids_may_be_a_row_or_a_batch_of_one_in_an_array_or_a_list(shape: tuple[int, ...], kind: Any) -> None:
    ids = np.array([6109, 3626, 6100, 345]).reshape(shape)
    given = ids.tolist() if kind is list else ids.astype(kind)
    assert token_ids_to_text(given, get_tokenizer()) == PROMPT


@pytest.mark.parametrize("nothing", [[], [[]], np.empty((1, 0), np.int64)])
def test_no_ids_are_no_text(nothing: Any) -> None:
    assert token_ids_to_text(nothing, get_tokenizer()) == ""


def test_half_a_character_reads_as_the_replacement_sign() -> None:
    assert token_ids_to_text([0xC3], train_tokenizer("", 0)) == "\ufffd"


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        ([50257], r"0 \.\. 50256"),
        ([5, -1], r"-1 \.\. 5"),
        ([2**40], r"0 \.\. 50256"),
        (np.zeros((2, 3), int), r"shape \(2, 3\)"),
        (np.zeros((1, 1, 3), int), r"shape \(1, 1, 3\)"),
        (7, r"shape \(\)"),
        ([0.5, 1.0], "float64"),
        ([True], "bool"),
    ],
)
def test_ids_that_cannot_be_read_are_refused_in_one_line(ids: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        token_ids_to_text(ids, get_tokenizer())
    assert_one_line(caught.value)


# --- training


def test_a_trained_tokenizer_has_the_bytes_the_merges_and_the_special_token_last(trained: tiktoken.Encoding) -> None:
    assert trained.n_vocab == 256 + 512 + 1
    assert trained.eot_token == trained.n_vocab - 1
    assert [trained.decode_single_token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]


def test_a_text_with_little_to_learn_gives_a_smaller_vocabulary() -> None:
    assert train_tokenizer("abcdefg").n_vocab == 257


def test_a_trained_tokenizer_may_be_named() -> None:
    assert train_tokenizer("", name="story").name == "story"


def test_the_name_of_a_file_is_not_learned_as_a_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    assert train_tokenizer(str(path), 5).n_vocab > 256  # not a file's, so a text like any other
    path.write_text("the cat", encoding="utf-8")
    with pytest.raises(InputError, match="is the name of a file; give its contents"):
        train_tokenizer(str(path), 5)


def test_a_negative_number_of_merges_is_refused() -> None:
    with pytest.raises(InputError, match="n_merges: -1") as caught:
        train_tokenizer("text", -1)
    assert_one_line(caught.value)


# --- files


def test_a_saved_tokenizer_comes_back_exactly(trained: tiktoken.Encoding, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for tokenizer in (trained, get_tokenizer(), train_tokenizer("", 0, name="caf\u00e9")):
        save_tokenizer(tokenizer, path)
        loaded = get_tokenizer(path)
        assert parts(loaded) == parts(tokenizer)
        assert loaded.encode(PROMPT) == tokenizer.encode(PROMPT)


def test_a_path_may_be_given_as_a_string(trained: tiktoken.Encoding, tmp_path: Path) -> None:
    save_tokenizer(trained, str(tmp_path / "t"))
    assert parts(get_tokenizer(str(tmp_path / "t"))) == parts(trained)


def test_the_same_tokenizer_is_always_saved_as_the_same_bytes(trained: tiktoken.Encoding, tmp_path: Path) -> None:
    save_tokenizer(trained, tmp_path / "first")
    save_tokenizer(get_tokenizer(tmp_path / "first"), tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_saving_leaves_nothing_else_behind(trained: tiktoken.Encoding, tmp_path: Path) -> None:
    save_tokenizer(trained, tmp_path / "t")
    save_tokenizer(trained, tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_save_that_fails_leaves_the_old_file_whole(
    trained: tiktoken.Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tokenizer(trained, tmp_path / "t")

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_tokenizer(get_tokenizer(), tmp_path / "t")
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert parts(get_tokenizer(tmp_path / "t")) == parts(trained)


@pytest.mark.parametrize("name", ["gpt3", "no/such/file.json", "."])
def test_an_unknown_name_is_refused_in_one_line_that_says_what_is_allowed(name: str) -> None:
    with pytest.raises(InputError, match=f"cannot read {name!r}.*give 'gpt2'") as caught:
        get_tokenizer(name)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    "contents",
    [b"", b"hello", b"{}", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 100_000, b'{"format": "another"}'],
    ids=lambda contents: repr(contents[:12]),
)
def test_a_file_that_holds_no_tokenizer_is_refused_in_one_line(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(contents)
    with pytest.raises(InputError, match="tokenizer: ") as caught:
        get_tokenizer(tmp_path / "t")
    assert_one_line(caught.value)


@pytest.mark.parametrize("key", ["name", "pattern", "special_tokens", "ranks", "sha256", "format"])
def test_a_file_with_a_part_missing_is_refused(key: str, trained: tiktoken.Encoding, tmp_path: Path) -> None:
    save_tokenizer(trained, tmp_path / "t")
    document = json.loads((tmp_path / "t").read_text())
    del document[key]
    (tmp_path / "t").write_text(json.dumps(document))
    with pytest.raises(InputError, match="tokenizer: ") as caught:
        get_tokenizer(tmp_path / "t")
    assert_one_line(caught.value)


def test_a_flipped_bit_is_noticed_wherever_it_falls(trained: tiktoken.Encoding, tmp_path: Path) -> None:
    save_tokenizer(trained, tmp_path / "t")
    whole = (tmp_path / "t").read_bytes()
    rng = np.random.default_rng(1)
    for where, bit in zip(rng.integers(len(whole), size=100), rng.integers(8, size=100), strict=True):
        flipped = bytearray(whole)
        flipped[where] ^= 1 << bit
        (tmp_path / "t").write_bytes(flipped)
        try:
            loaded = get_tokenizer(tmp_path / "t")
        except InputError as error:
            assert_one_line(error)
        else:  # one kind of space for another, between two entries
            assert parts(loaded) == parts(trained)


# --- the story


def test_the_story_is_long_enough_to_train_on_and_plain(story: str) -> None:
    assert len(story) >= 25_000
    assert story.isascii()
    assert not re.search(r"[^\n -~]", story)
    assert story.endswith("\n")
    assert not story.endswith("\n\n")


def test_the_story_is_a_title_and_paragraphs_no_two_alike(story: str) -> None:
    title, *paragraphs = story.rstrip("\n").split("\n\n")
    assert title == "A Thumb a Day"
    assert all("\n" not in paragraph and paragraph.strip() == paragraph for paragraph in paragraphs)
    assert len(set(paragraphs)) == len(paragraphs)


def test_quotation_marks_in_the_story_come_in_pairs(story: str) -> None:
    assert all(paragraph.count('"') % 2 == 0 for paragraph in story.split("\n\n"))


def test_the_story_says_the_prompt_in_both_parts_of_a_90_to_10_split(story: str) -> None:
    split = int(0.9 * len(story))
    assert story[:split].count(PROMPT) >= 2
    assert PROMPT in story[split:]


def test_its_own_tokenizer_makes_the_story_less_than_half_as_long(story: str, trained: tiktoken.Encoding) -> None:
    ids = text_to_token_ids(story, trained)
    assert len(story.encode()) / ids.shape[1] > 2
    assert token_ids_to_text(ids, trained) == story


def test_the_notice_states_the_sha256_of_the_ranks_as_they_are() -> None:
    assets = resources.files("nanograd_gpt") / "assets"
    digest = hashlib.sha256((assets / "gpt2.tiktoken").read_bytes()).hexdigest()
    assert digest in (assets / "NOTICE.md").read_text(encoding="utf-8")


def assert_one_line(error: Exception) -> None:
    assert len(str(error).splitlines()) == 1


def parts(tokenizer: tiktoken.Encoding) -> tuple[Any, ...]:
    """All that an Encoding is made of."""
    return tokenizer.name, tokenizer._pat_str, tokenizer._mergeable_ranks, tokenizer._special_tokens
