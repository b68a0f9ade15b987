"""Streaming: pieces of whole characters, without any part of a stop string."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpt.tiny import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.generation.streaming import StreamDecoder, complete, complete_batch, complete_stream
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.bpe import END_OF_TEXT
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, text_to_token_ids, token_ids_to_text, train_tokenizer

BYTES = train_tokenizer("", 0)  # a token is a byte, so that every character beyond ASCII is cut
TEXT = "Grüße, 世界! 👋🏽 e\u0301 \ufffd fin"


def pieces(tokenizer: Any, tokens: list[int], *stop: str) -> list[str]:
    """The piece that each token yields, up to a stop string, and the rest."""
    text, given = StreamDecoder(tokenizer, stop), []
    for token in tokens:
        given.append(text.push(token))
        if text.stopped:
            break
    return [*given, text.flush()]


# --- whole characters


def test_every_piece_is_whole_characters_and_all_are_the_text() -> None:
    given = pieces(BYTES, BYTES.encode(TEXT))
    assert "".join(given) == TEXT
    assert [p for p in given if p] == list(TEXT)  # each as soon as its last byte is there


def test_tokens_of_gpt2_that_cut_a_character_are_joined() -> None:
    gpt2 = get_tokenizer("gpt2")
    tokens = gpt2.encode(TEXT)
    assert len(tokens) > len({t for t in tokens if "\ufffd" not in gpt2.decode([t])})  # some are cut
    given = pieces(gpt2, tokens)
    assert "".join(given) == TEXT
    assert all("\ufffd" not in p or p.strip() == "\ufffd" for p in given)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_utf8_read_as_the_whole_text_does(seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 256, 60).tolist()
    assert "".join(pieces(BYTES, tokens)) == token_ids_to_text(tokens, BYTES)


def test_half_a_character_at_the_end_is_not_lost() -> None:
    assert "".join(pieces(BYTES, BYTES.encode("a世")[:-1])) == "a\ufffd"


# --- stop strings


def by_definition(text: str, stop: list[str]) -> str:
    """Reference, letter by letter: the text ends where the first complete stop string begins."""
    for end in range(1, len(text) + 1):
        complete_ones = [s for s in stop if text[:end].endswith(s)]
        if complete_ones:
            return text[: end - max(map(len, complete_ones))]
    return text


@pytest.mark.parametrize(
    ("text", "stop", "before"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["none"], "one two three"),
        ("aaab", ["aab"], "a"),
        ("ababac", ["abac"], "ab"),
        ("a\n\nb", ["\n\n"], "a"),
        ("abcd", ["abcx", "bc"], "a"),
        ("abcd", ["d", "bcd"], "a"),
        ("stop", ["stop"], ""),
        ("sto", ["stop"], "sto"),
        ("世界", ["界"], "世"),
    ],
)
def test_the_text_ends_before_the_first_stop_string(text: str, stop: list[str], before: str) -> None:
    assert by_definition(text, stop) == before
    for tokenizer in (BYTES, train_tokenizer(text * 5, 50), get_tokenizer("gpt2")):
        assert "".join(pieces(tokenizer, tokenizer.encode(text), *stop)) == before


@pytest.mark.parametrize("seed", range(30))
def test_random_texts_end_where_the_definition_says_however_they_are_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice(list("ab"), 40))
    stop = ["".join(rng.choice(list("ab"), n)) for n in rng.integers(3, 8, 2)]
    expected = by_definition(text, stop)
    for tokenizer in (BYTES, train_tokenizer(text, 20)):
        assert "".join(pieces(tokenizer, tokenizer.encode(text), *stop)) == expected


def test_no_more_is_kept_back_than_may_become_a_stop_string() -> None:
    assert pieces(BYTES, BYTES.encode("abxaby"), "aby") == ["", "", "abx", "", "", "", ""]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InputError) as error:
        StreamDecoder(BYTES, ["a", ""])
    assert one_line(error) == "stop: an empty string would stop at once; give at least one character"


# --- with a model


class Script:
    """A model that continues each prompt with its given text, byte by byte, and then end of text."""

    training = False

    def __init__(self, text: str) -> None:
        self.config = SimpleNamespace(vocab_size=BYTES.n_vocab, context_length=1000)
        self.tokens, self.start, self.asked = [*BYTES.encode(text), BYTES.eot_token], 0, 0

    def new_cache(self, batch_size: int, capacity: int) -> Any:
        self.lengths = [0] * batch_size
        return SimpleNamespace(lengths=self.lengths, select=lambda rows: self._select(rows))

    def _select(self, rows: Any) -> Any:
        self.lengths = [self.lengths[i] for i in rows]
        return SimpleNamespace(lengths=self.lengths, select=lambda more: self._select(more))

    def next_token_logits(self, ids: npt.NDArray[np.int64], cache: Any, counts: npt.NDArray[np.int64]) -> Any:
        self.asked += 1
        for b, count in enumerate(counts):
            cache.lengths[b] += int(count)
        logits = np.zeros((len(ids), BYTES.n_vocab))
        for b in range(len(ids)):
            logits[b, self.tokens[min(self.asked, len(self.tokens)) - 1]] = 1
        return SimpleNamespace(data=logits)


def test_the_end_of_text_ends_it() -> None:
    model: Any = Script("schön!")
    assert complete(model, "sehr ", BYTES) == "schön!"
    assert model.asked == len("schön!".encode()) + 1


def test_a_stop_string_ends_it_and_asks_no_more() -> None:
    model: Any = Script("one. two. three.")
    assert complete(model, "zero ", BYTES, stop=["two"]) == "one. "
    assert model.asked == len("one. two")


def test_streamed_pieces_come_one_by_one_and_are_the_text() -> None:
    model: Any = Script("aß世")
    stream = complete_stream(model, "x", BYTES)
    assert model.asked == 0
    assert (next(stream), model.asked) == ("a", 1)
    assert (next(stream), model.asked) == ("ß", 3)
    assert list(stream) == ["世"]


def test_max_new_tokens_ends_it_in_the_midst_of_a_character() -> None:
    model: Any = Script("a世")
    assert complete(model, "x", BYTES, 2) == "a\ufffd"


@pytest.fixture(scope="module")
def model() -> GPTModel:
    config = GPTConfig(vocab_size=BYTES.n_vocab, context_length=24, emb_dim=16, n_heads=2, n_layers=2, qkv_bias=True)
    model = GPTModel(config, rng=Generator(3)).eval()
    for p in model.trf_blocks.parameters():
        p.data *= 3
    return model


def test_greedy_text_is_generate_texts(model: GPTModel) -> None:
    ids = generate_text(model, text_to_token_ids("Every", BYTES), 60, 24)
    assert complete(model, "Every", BYTES, 60) == token_ids_to_text(ids[0, 5:], BYTES)
    assert complete(model, np.array(BYTES.encode("Every")), BYTES, 60) == token_ids_to_text(ids[0, 5:], BYTES)
    assert "".join(complete_stream(model, "Every", BYTES, 60)) == complete(model, "Every", BYTES, 60)


def test_sampled_text_is_its_seeds(model: GPTModel) -> None:
    def text(seed: int) -> str:
        return complete(model, "Every", BYTES, 40, Sampling(1.0, top_p=0.9), rng=Generator(seed))

    assert text(1) == text(1) != text(2)


def test_several_prompts_are_continued_as_each_alone_to_its_own_stop(model: GPTModel) -> None:
    prompts = ["Every", "effort moves", "y"]
    whole = [complete(model, p, BYTES, 50) for p in prompts]
    stop = [max((c for c in whole[0]), key=whole[0].count)]
    together = complete_batch(model, prompts, BYTES, 50, stop=stop)
    assert together == [complete(model, p, BYTES, 50, stop=stop) for p in prompts]
    assert together == [by_definition(w, stop) for w in whole]
    assert len(set(map(len, together))) > 1


def test_an_empty_prompt_is_refused(model: GPTModel) -> None:
    with pytest.raises(InputError) as error:
        complete(model, "", BYTES)
    assert one_line(error) == "prompt: the prompt is empty; give a text to continue"


def test_the_end_of_text_in_a_prompt_is_its_token(model: GPTModel) -> None:
    ids = np.array([BYTES.eot_token, *BYTES.encode("a")])
    assert complete(model, f"{END_OF_TEXT}a", BYTES, 10) == complete(model, ids, BYTES, 10)
