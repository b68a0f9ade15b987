"""Hugging Face's and OpenAI's files of a byte-level BPE: read as transformers read them, or refused; and written."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
from gpt.tiny import TINY, one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.tokenizer.byte_level import LETTERS, parts_below
from nanograd_gpt.tokenizer.encoding import encode, end_of_text, padding_ids, token_bytes
from nanograd_gpt.tokenizer.tokenizer import (
    get_tokenizer,
    save_tokenizer,
    token_ids_to_text,
    tokenizer_beside,
    train_tokenizer,
)
from nanograd_gpt.training.sources import pretrained_tokenizer
from nanograd_gpt.weights.save import save_pretrained

from .encodings import gappy, plain_encoding

GOLDENS = Path(__file__).parents[1] / "goldens"
WHOLE, PARTS = GOLDENS / "tokenizer_json", GOLDENS / "tokenizer_vocab"

Document = dict[str, Any]


def changed(tmp_path: Path, change: Callable[[Document], object]) -> Path:
    document = json.loads((WHOLE / "tokenizer.json").read_text(encoding="utf-8"))
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        get_tokenizer(path)
    message = one_line(error)
    assert message.startswith("tokenizer: ")
    return message


# --- reading


@pytest.mark.parametrize("folder", [WHOLE, PARTS], ids=lambda folder: folder.name)
def test_texts_are_encoded_as_transformers_did(folder: Path) -> None:
    tokenizer = get_tokenizer(folder)
    for text, ids in json.loads((folder / "encoded.json").read_text(encoding="utf-8")):
        assert encode(text, tokenizer) == ids
        assert token_ids_to_text(ids, tokenizer) == text


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_file_may_be_named_in_place_of_its_directory(name: str) -> None:
    folder = WHOLE if name == "tokenizer.json" else PARTS
    assert token_bytes(get_tokenizer(folder / name)) == token_bytes(get_tokenizer(folder))
    assert token_bytes(get_tokenizer(str(folder / name))) == token_bytes(get_tokenizer(WHOLE))


def test_line_ends_of_another_system_do_no_harm(tmp_path: Path) -> None:
    shutil.copy(PARTS / "vocab.json", tmp_path)
    (tmp_path / "merges.txt").write_bytes((PARTS / "merges.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert get_tokenizer(tmp_path)._mergeable_ranks == get_tokenizer(PARTS)._mergeable_ranks


def test_openais_names_of_the_same_files_are_known(tmp_path: Path) -> None:
    shutil.copy(PARTS / "vocab.json", tmp_path / "encoder.json")
    shutil.copy(PARTS / "merges.txt", tmp_path / "vocab.bpe")
    for path in (tmp_path, tmp_path / "encoder.json", tmp_path / "vocab.bpe"):
        assert get_tokenizer(path)._mergeable_ranks == get_tokenizer(PARTS)._mergeable_ranks


def test_merges_are_read_in_the_old_form_and_in_the_new_one(tmp_path: Path) -> None:
    def other_form(document: Document) -> None:
        merges = document["model"]["merges"]
        document["model"]["merges"] = [m.split(" ") if isinstance(m, str) else " ".join(m) for m in merges]

    path = changed(tmp_path, other_form)
    assert get_tokenizer(path)._mergeable_ranks == get_tokenizer(WHOLE)._mergeable_ranks


@pytest.mark.parametrize(
    ("file", "content", "eot"),
    [
        (None, None, None),
        ("tokenizer_config.json", {"eos_token": "</s>"}, 2),
        ("tokenizer_config.json", {"eos_token": "</s>", "model_max_length": int(1e30)}, 2),  # no limit
        ("tokenizer_config.json", {"eos_token": {"content": "<pad>", "lstrip": False}}, 1),
        ("special_tokens_map.json", {"eos_token": "<s>"}, 0),
        ("config.json", {"eos_token_id": 2}, 2),
        ("config.json", {"eos_token_id": 50256}, None),
        ("generation_config.json", {"eos_token_id": [50256, 1]}, 1),
    ],
)
def test_the_end_of_text_is_what_the_files_beside_it_say(
    tmp_path: Path, file: str | None, content: Document | None, eot: int | None
) -> None:
    shutil.copy(WHOLE / "tokenizer.json", tmp_path)
    if file is not None:
        (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    tokenizer = get_tokenizer(tmp_path)
    assert end_of_text(tokenizer) == eot
    save_tokenizer(tokenizer, tmp_path / "saved.json")
    saved = get_tokenizer(tmp_path / "saved.json")
    assert (end_of_text(saved), token_bytes(saved)) == (eot, token_bytes(tokenizer))


def test_entries_that_no_merge_makes_are_padding(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda d: d["model"]["vocab"].update({"unused": 349, "<extra>": 350}))
    tokenizer = get_tokenizer(path)
    assert encode("unused <extra>", tokenizer) == encode("unused <extra>", get_tokenizer(WHOLE))
    assert padding_ids(tokenizer, 351).tolist() == [349, 350]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<|user|>": 349}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"349": {"content": "<|user|>"}}}),
    ],
)
def test_tokens_added_in_other_files_are_special(tmp_path: Path, file: str, content: Document) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(PARTS / name, tmp_path)
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    assert encode("<|user|>", get_tokenizer(tmp_path)) == [349]


# --- refusals


def _swap_first_merges(document: Document) -> None:
    merges = document["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def _another_pair(document: Document) -> None:
    """Makes "qzj" of "q" and "zj", which never stand beside each other: "qz" comes before "zj"."""
    model = document["model"]
    for token, merge in enumerate((["q", "z"], ["z", "j"], ["q", "zj"]), start=349):
        model["vocab"]["".join(merge)] = token
        model["merges"].append(merge)


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "lower case": (
        lambda d: d.update(normalizer={"type": "Lowercase"}),
        "unsupported normalizer Lowercase; only none is supported",
    ),
    "NFC in a sequence": (
        lambda d: d.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}),
        "unsupported normalizer NFC",
    ),
    "no cut": (lambda d: d.update(pre_tokenizer=None), "unsupported pre_tokenizer type none; only ByteLevel"),
    "another cut": (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer type Whitespace"),
    "digits apart": (
        lambda d: d.update(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits"}, d["pre_tokenizer"]]}
        ),
        r"pre_tokenizer type Digits \+ ByteLevel",
    ),
    "a space first": (
        lambda d: d["pre_tokenizer"].update(add_prefix_space=True),
        "pre_tokenizer add_prefix_space True; only False is supported",
    ),
    "no pattern": (lambda d: d["pre_tokenizer"].update(use_regex=False), "pre_tokenizer use_regex False"),
    "tokens around": (
        lambda d: d.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
            }
        ),
        "unsupported post_processor TemplateProcessing",
    ),
    "another decoder": (
        lambda d: d.update(decoder={"type": "WordPiece"}),
        "unsupported decoder WordPiece; only ByteLevel",
    ),
    "another model": (lambda d: d["model"].update(type="Unigram"), "unsupported model Unigram; only BPE"),
    "dropout": (lambda d: d["model"].update(dropout=0.1), "unsupported model dropout 0.1; only none"),
    "a suffix": (lambda d: d["model"].update(end_of_word_suffix="</w>"), "model end_of_word_suffix </w>"),
    "a special that strips": (
        lambda d: d["added_tokens"][0].update(lstrip=True),
        "unsupported special token '<s>' with lstrip True; only False",
    ),
    "whole words first": (
        lambda d: (d["model"].update(ignore_merges=True), d["model"]["vocab"].update(unused=349)),
        "no merge makes 'unused', which ignore_merges needs",
    ),
    "a byte without a token": (lambda d: d["model"]["vocab"].pop("a"), "has no token for the byte 0x61"),
    "a merge of strangers": (lambda d: d["model"]["merges"].append("q qqq"), "the merge 'q qqq' is not of tokens"),
    "merges in another order": (_swap_first_merges, "its ids do not rise in the order of its merges"),
    "merges not by rank": (_another_pair, "its merges are not in the order of its ids, at b'qzj'"),
    "an id that is none": (lambda d: d["model"]["vocab"].update(a="x"), "the id of 'a': 'x' is not allowed"),
    "a negative id": (lambda d: d["model"]["vocab"].update(a=-1), "the id of 'a': -1 is not allowed"),
    "one id for two": (lambda d: d["model"]["vocab"].update(a=d["model"]["vocab"]["b"]), "two tokens have one id"),
    "no vocabulary": (lambda d: d["model"].pop("vocab"), "is damaged: KeyError 'vocab'"),
    "no model": (lambda d: d.update(model=3), "is damaged: "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_make_other_tokens_is_refused(change: str, tmp_path: Path) -> None:
    how, message = CHANGES[change]
    path = changed(tmp_path, how)
    with pytest.raises(InputError, match=message):
        get_tokenizer(path)
    assert str(path) in refusal(path)


ANYTHING: list[Any] = [None, True, 3, -1, 1.5, 2**40, "x", "", [], [3], ["a", "b"], {}, {"a": 1}, {"type": "x"}]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of a document's values; of long lists and tables, the first few."""
    entries = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ())
    for key, value in entries[:12]:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.slow
def test_anything_anywhere_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    beside = {
        "tokenizer_config.json": {"eos_token": {"content": "</s>"}, "added_tokens_decoder": {"0": {"content": "<s>"}}},
        "special_tokens_map.json": {"eos_token": "</s>", "additional_special_tokens": ["<pad>"]},
        "added_tokens.json": {"<|user|>": 349},
        "config.json": {"eos_token_id": [2]},
    }
    whole = {"tokenizer.json": json.loads((WHOLE / "tokenizer.json").read_text(encoding="utf-8")), **beside}
    for name, content in whole.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert end_of_text(get_tokenizer(tmp_path)) == 2
    refused: list[str] = []
    for name, content in whole.items():
        for place in places(content):
            for value in ANYTHING:
                document = copy.deepcopy(content)
                node = document
                for key in place[:-1]:
                    node = node[key]
                node[place[-1]] = value
                (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
                try:
                    encode("the cat</s>", get_tokenizer(tmp_path))
                except InputError as error:
                    refused.append(str(error))
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert len(refused) > 300
    assert not any("\n" in message for message in refused)


def test_what_changes_nothing_is_taken(tmp_path: Path) -> None:
    def change(document: Document) -> None:
        document["normalizer"] = {"type": "Sequence", "normalizers": []}
        document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [document["pre_tokenizer"]]}
        document["post_processor"] = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}
        document["truncation"] = {"max_length": 8}

    path = changed(tmp_path, change)
    assert token_bytes(get_tokenizer(path)) == token_bytes(get_tokenizer(WHOLE))


@pytest.mark.parametrize("setting", ["add_prefix_space", "add_bos_token", "add_eos_token"])
def test_a_setting_that_adds_to_each_text_is_refused(setting: str, tmp_path: Path) -> None:
    shutil.copy(WHOLE / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({setting: True}), encoding="utf-8")
    assert f"unsupported {setting} True; only False is supported" in refusal(tmp_path)


@pytest.mark.parametrize(("there", "missing"), [("vocab.json", "merges.txt"), ("merges.txt", "vocab.json")])
def test_half_a_tokenizer_is_refused(there: str, missing: str, tmp_path: Path) -> None:
    shutil.copy(PARTS / there, tmp_path)
    assert missing in refusal(tmp_path)
    with pytest.raises(InputError, match=missing):
        pretrained_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"3", b"{", b"[" * 100_000, b'{"a": 1%s}' % (b"0" * 31)])
@pytest.mark.parametrize("name", ["vocab.json", "tokenizer_config.json"])
def test_files_that_are_no_json_are_refused(content: bytes, name: str, tmp_path: Path) -> None:
    shutil.copytree(PARTS, tmp_path / "t")
    (tmp_path / "t" / name).write_bytes(content)
    assert name in refusal(tmp_path / "t")


# --- beside weights


def test_weights_have_the_tokenizer_beside_them_or_gpt2s(tmp_path: Path) -> None:
    weights = tmp_path / "some.safetensors"
    weights.touch()
    assert tokenizer_beside(weights) is None
    assert pretrained_tokenizer(weights) is pretrained_tokenizer("gpt2") is get_tokenizer("gpt2")
    with pytest.raises(InputError, match="has no checkpoint"):  # nor weights, which might be smaller than GPT-2's
        pretrained_tokenizer(tmp_path)
    shutil.copy(WHOLE / "tokenizer.json", tmp_path)
    assert tokenizer_beside(weights) == tokenizer_beside(tmp_path) == tmp_path / "tokenizer.json"
    assert pretrained_tokenizer(str(tmp_path)).n_vocab == 349
    save_tokenizer(train_tokenizer("aa aa", 1), tmp_path / "some.tokenizer.json")
    assert pretrained_tokenizer(weights).n_vocab == 258


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "vocab.txt"])
def test_a_tokenizer_of_another_kind_beside_weights_is_not_taken_for_gpt2s(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x0a\x0e")
    with pytest.raises(InputError, match=f"{name} is not a byte-level BPE like GPT-2's") as error:
        pretrained_tokenizer(tmp_path)
    one_line(error)


# --- writing


def tokenizers() -> dict[str, tiktoken.Encoding]:
    return {
        "own": train_tokenizer("the cat sat on the mat; the cat sat on the hat " * 3, 60),
        "bytes": train_tokenizer("", 0),
        "no special": plain_encoding({}),
        "their own": get_tokenizer(PARTS),
        "another pattern": plain_encoding({}, pattern=r"\s+|\S+"),
    }


@pytest.mark.parametrize("name", [*tokenizers()])
def test_a_written_tokenizer_comes_back(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizers()[name]
    model = GPTModel({**TINY.to_dict(), "vocab_size": 400})
    directory = save_pretrained(tmp_path / "out", model, tokenizer)
    again = pretrained_tokenizer(directory)
    assert token_bytes(again) == token_bytes(tokenizer)
    assert end_of_text(again) == end_of_text(tokenizer)
    assert again._pat_str == tokenizer._pat_str
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == end_of_text(tokenizer)
    assert "format" in json.loads((directory / "tokenizer.json").read_text()) or name != "another pattern"


@pytest.mark.slow
def test_gpt2s_own_is_written_with_its_own_merges(tmp_path: Path) -> None:
    model = GPTModel({**TINY.to_dict(), "vocab_size": 50304, "emb_dim": 2})
    directory = save_pretrained(tmp_path / "out", model, get_tokenizer("gpt2"))
    document = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    assert document["model"]["merges"][:4] == [["\u0120", "t"], ["\u0120", "a"], ["h", "e"], ["i", "n"]]
    assert len(document["model"]["merges"]) == 50_000
    assert pretrained_tokenizer(directory)._mergeable_ranks == get_tokenizer("gpt2")._mergeable_ranks


def test_gaps_and_tokens_that_no_pair_makes_are_kept(tmp_path: Path) -> None:
    model = GPTModel({**TINY.to_dict(), "vocab_size": 400})
    assert token_bytes(pretrained_tokenizer(save_pretrained(tmp_path / "gaps", model, gappy()))) == token_bytes(gappy())
    ranks = gappy()._mergeable_ranks | {b"xyz": 259}
    odd = tiktoken.Encoding("odd", pat_str=gappy()._pat_str, mergeable_ranks=ranks, special_tokens={})
    again = pretrained_tokenizer(save_pretrained(tmp_path / "odd", model, odd))
    assert token_bytes(again) == token_bytes(odd)


def test_a_tokenizer_larger_than_the_model_is_not_written_with_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocab_size: 23 is less than"):
        save_pretrained(tmp_path / "out", GPTModel(TINY), gappy())
    assert not any(tmp_path.iterdir())


# --- its parts


def test_every_byte_has_a_letter_of_its_own_that_can_be_seen() -> None:
    assert len(set(LETTERS)) == 256
    assert all(letter.isprintable() and not letter.isspace() for letter in LETTERS)
    assert (LETTERS[ord(" ")], LETTERS[ord("\n")], LETTERS[ord("a")]) == ("\u0120", "\u010a", "a")


@pytest.mark.parametrize("letters", ["a", "ab", "aab", "abc"])
def test_the_pair_that_a_learned_token_is_made_of_is_found_again(letters: str) -> None:
    text = "".join(np.random.default_rng(len(letters)).choice(list(letters), 400))
    ranks = train_tokenizer(text, 60)._mergeable_ranks
    joined = [token for token in ranks if len(token) > 1]
    assert joined
    for token in joined:
        left, right = parts_below(token, ranks)
        assert left + right == token
        assert max(ranks[left], ranks[right]) < ranks[token]
