"""Text to ids with any tokenizer: special tokens, gaps, padding, and runs of spaces of any length; against tiktoken."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
import tiktoken
from gpt.tiny import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.tokenizer.bpe import END_OF_TEXT, GPT2_PATTERN
from nanograd_gpt.tokenizer.encoding import LONG_RUN_CHARS, Tokenizer, encode, end_of_text, padding_ids, token_bytes
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, text_to_token_ids, token_ids_to_text, train_tokenizer

from .encodings import gappy, plain_encoding

GPT2 = get_tokenizer("gpt2")
BLANKS = {"space": " ", "line end": "\n", "both": " \n", "CR LF": "\r\n", "wide": "\u3000", "no-break": "\u00a0"}
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
    r"""|\s+(?!\S)|\s"""
)


# --- long runs


@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS)
@pytest.mark.parametrize("length", [LONG_RUN_CHARS - 1, LONG_RUN_CHARS, LONG_RUN_CHARS + 1])
def test_a_long_run_is_cut_as_tiktoken_cuts_it(blank: str, length: int) -> None:
    run = (blank * length)[:length]
    for text in (
        f"{run}x",
        f"a{run}x",
        f"a. {run}'s",
        f"{run}",
        f"x\n{run}\U0001f600{run}1 {run}",
        f"a{run}\x1c{run}b",
    ):
        assert encode(text, GPT2) == GPT2.encode(text)


def test_a_shorter_text_is_not_searched_by_a_pattern_that_takes_long_to_compile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nanograd_gpt.tokenizer.encoding.regex", None)
    assert encode("\n" * LONG_RUN_CHARS, GPT2) == GPT2.encode("\n" * LONG_RUN_CHARS)


@pytest.mark.parametrize("blank", [" ", "\n"])
def test_the_longest_run_that_tiktoken_takes_is_cut_as_it_does(blank: str) -> None:
    text = f"it is{blank * 999_990}said"
    assert encode(text, GPT2) == GPT2.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [*BLANKS.values(), "a", "1", "\U0001f600", "!", "\u0301"])
@pytest.mark.parametrize("where", ["{}x", "x{}", "x{}y z{}"])
def test_a_run_of_more_than_a_million_is_encoded(unit: str, where: str) -> None:
    run = unit * (1_200_000 // len(unit))
    text = where.replace("{}", run)
    ids = encode(text, GPT2)
    assert GPT2.decode(ids) == text
    if where == "{}x" and unit in BLANKS.values():  # all but the last sign are a word, whatever it is before
        assert ids == GPT2.encode(run[:-1]) + GPT2.encode(run[-1] + "x")


@pytest.mark.slow
def test_a_tokenizer_is_learned_from_runs_of_more_than_a_million() -> None:
    tokenizer = train_tokenizer(f"the{' ' * 1_200_000}cat sat on the mat, the cat sat", 40)
    assert encode(f"the{' ' * 1_100_000}cat", tokenizer)
    assert b" cat" in tokenizer._mergeable_ranks


def test_only_a_run_that_another_pattern_cannot_take_is_refused() -> None:
    other = plain_encoding({}, pattern=CL100K_PATTERN)
    text = f"x{' ' * 900_000}y"
    assert encode(text, other) == other.encode(text)
    with pytest.raises(InputError, match="text: the pattern of tokenizer 'plain' cannot split it into words") as error:
        encode(f"x{' ' * 1_200_000}y", other)
    one_line(error)


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_encoded_as_tiktoken_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    signs = [" ", "\n", "\t", "a", "B", "'s", "1", ".", "\u00e9", "\U0001f600", "\ud800", "\x1c", END_OF_TEXT, "<|end"]
    text = "".join(rng.choice(signs, 200).tolist())
    for tokenizer in (GPT2, train_tokenizer("the cat sat on the mat " * 9, 20)):
        assert encode(text, tokenizer) == tokenizer.encode(text, allowed_special="all")


# --- special tokens, and none


def test_every_special_token_is_one_id_wherever_its_name_stands() -> None:
    tokenizer = plain_encoding({"<|user|>": 300, "</s>": 301})
    assert encode("a<|user|>b</s></s>", tokenizer) == [97, 300, 98, 301, 301]
    assert token_ids_to_text(text_to_token_ids("a<|user|>b", tokenizer), tokenizer) == "a<|user|>b"


def test_of_two_names_at_one_place_the_longer_is_meant() -> None:
    tokenizer = plain_encoding({"<a>": 300, "<a>b": 301, "  ": 302, "    ": 303})
    assert encode("<a>b<a>c     ", tokenizer) == [301, 300, 99, 303, 32]


def test_a_tokenizer_without_special_tokens_reads_their_names_as_text() -> None:
    tokenizer = plain_encoding({})
    assert bytes(encode(f"a{END_OF_TEXT}", tokenizer)).decode() == f"a{END_OF_TEXT}"
    assert end_of_text(tokenizer) is None


def test_the_end_of_text_is_the_tokenizers_own() -> None:
    assert end_of_text(GPT2) == 50256
    assert end_of_text(plain_encoding({"</s>": 300})) is None
    own = Tokenizer(
        "own", eot_token=300, pat_str=GPT2_PATTERN, mergeable_ranks=bytes_only(), special_tokens={"</s>": 300}
    )
    for tokenizer in (own, copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert end_of_text(tokenizer) == tokenizer.eot_token == 300
        assert encode("a</s>", tokenizer) == [97, 300]
    none = Tokenizer("none", eot_token=None, pat_str=GPT2_PATTERN, mergeable_ranks=bytes_only(), special_tokens={})
    assert end_of_text(none) is None


# --- gaps and padding


def test_padding_is_what_no_token_has_gaps_among_it() -> None:
    tokenizer = gappy()
    assert padding_ids(tokenizer, tokenizer.n_vocab).tolist() == [256, *range(259, 270), *range(271, 280)]
    assert padding_ids(tokenizer, 290).tolist()[-9:] == [*range(281, 290)]
    assert padding_ids(GPT2, 50304).tolist() == [*range(50257, 50304)]
    assert padding_ids(GPT2, 50257).tolist() == []
    assert sorted(token_bytes(tokenizer)) == [*range(256), 257, 258, 270, 280]


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused() -> None:
    with pytest.raises(InputError, match="vocab_size: 300 is less than the 50257 ids of tokenizer 'gpt2'") as error:
        padding_ids(GPT2, 300)
    one_line(error)


@pytest.mark.parametrize("token", [256, 260, 281])
def test_an_id_that_stands_for_nothing_is_named(token: int) -> None:
    with pytest.raises(InputError) as error:
        token_ids_to_text([97, token], gappy())
    assert re.match(
        rf"token ids: {token}, in 97 \.\. {token}, is not a token.* 0 \.\. 280 with 21 gaps", one_line(error)
    )


def bytes_only() -> dict[bytes, int]:
    return {bytes([value]): value for value in range(256)}


def test_a_plain_encoding_of_tiktoken_is_all_it_takes() -> None:
    assert type(gappy()) is tiktoken.Encoding
