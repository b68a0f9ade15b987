"""Learning byte pairs: against a trainer that recounts everything at every merge, and against the encoder."""

from __future__ import annotations

import random
import time
from collections import Counter
from importlib import resources
from io import StringIO
from itertools import pairwise
from typing import TypeAlias

import pytest

from nanograd_gpt.tokenizer.bpe import END_OF_TEXT, GPT2_PATTERN, Pair, count_words, learn_merges, learn_ranks
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer

Word: TypeAlias = list[int]


def join(word: Word, pair: Pair, token: int) -> Word:
    """The word with every occurrence of the pair, from the left, replaced by the token."""
    joined: Word = []
    i = 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            joined.append(token)
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined


def merges_by_recounting(text: str, n_merges: int) -> list[Pair]:
    """The definition, read aloud: count all pairs, take the most frequent and then the smallest, join, begin again."""
    words = [list(word) for word, times in count_words(text).items() for _ in range(times)]
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        if max(counts.values(), default=0) < 2:
            break
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        words = [join(word, merges[-1], 255 + len(merges)) for word in words]
    return merges


def encode_by_merges(word: Word, merges: list[Pair]) -> Word:
    """A word's tokens by the merges: each applied in its turn, everywhere it fits."""
    for m, pair in enumerate(merges):
        word = join(word, pair, 256 + m)
    return word


def random_text(seed: int, letters: str, length: int) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.mark.parametrize("letters", ["ab", "aab ", "abcab \n", "the cat sat. ", "\u00e9\u4e2d\U0001f600a "])
@pytest.mark.parametrize("seed", range(8))
def test_merges_are_those_of_recounting_everything(letters: str, seed: int) -> None:
    text = random_text(seed, letters, 20 + 40 * seed)
    assert learn_merges(text, 60) == merges_by_recounting(text, 60)


def test_the_story_gives_the_merges_of_recounting_everything() -> None:
    text = story()[:6000]
    assert learn_merges(text, 100) == merges_by_recounting(text, 100)


@pytest.mark.parametrize("letters", ["a", "ab", "abc", "ab ", "\u00e9\u4e2da "])
@pytest.mark.parametrize("seed", range(8))
def test_the_tokenizer_encodes_exactly_as_the_merges_say(letters: str, seed: int) -> None:
    text = random_text(seed, letters, 300)
    merges = learn_merges(text, 80)
    tokenizer = train_tokenizer(text, 80)
    unseen = random_text(seed + 1000, letters, 200)
    for word in count_words(text) + count_words(unseen):
        assert tokenizer.encode(word.decode()) == encode_by_merges(list(word), merges)


@pytest.mark.parametrize("letters", ["a", "ab", "aab"])
def test_no_two_merges_make_the_same_token(letters: str) -> None:
    for seed in range(20):
        text = random_text(seed, letters, 400)
        assert len(learn_ranks(text, 120)) == 256 + len(learn_merges(text, 120))


def test_of_equally_frequent_pairs_the_smaller_ids_come_first() -> None:
    a, b, y, z = b"abyz"
    assert learn_merges("zy\nzy\nab\nab", 2) == [(a, b), (z, y)]


def test_the_more_frequent_pair_comes_before_the_smaller_one() -> None:
    a, b, y, z = b"abyz"
    assert learn_merges("zy\nzy\nzy\nab\nab", 2) == [(z, y), (a, b)]


def test_a_run_of_one_letter_is_joined_from_the_left() -> None:
    a = ord("a")
    assert join([a] * 5, (a, a), 256) == [256, 256, a]
    assert learn_merges("aaaaa", 2) == [(a, a)]  # a-a four times; then 256-256 and 256-a, once each


def test_training_stops_when_no_pair_occurs_twice() -> None:
    assert learn_merges("abcdefg", 10) == []
    assert learn_merges("", 10) == []
    assert learn_merges("ab\nab", 10) == [(ord("a"), ord("b"))]


def test_no_merge_crosses_from_one_word_into_the_next() -> None:
    ranks = learn_ranks("red hen, red hen, red hen.", 50)
    assert b" hen" in ranks
    assert not any(b" " in token[1:] or (b"," in token and len(token) > 1) for token in ranks)


def test_the_end_of_text_marker_teaches_nothing_and_parts_the_words_beside_it() -> None:
    assert learn_merges(END_OF_TEXT * 20, 10) == []
    assert count_words(f"hen{END_OF_TEXT}house") == Counter([b"hen", b"house"])


def test_a_lone_surrogate_in_the_text_does_no_harm() -> None:
    assert count_words("a\ud800") == Counter([b"a", b"?"])


def test_the_same_text_always_gives_the_same_ranks_in_the_same_order() -> None:
    assert list(learn_ranks(story(), 200).items()) == list(learn_ranks(story(), 200).items())


def test_fewer_merges_are_the_beginning_of_more() -> None:
    assert learn_merges(story(), 300)[:100] == learn_merges(story(), 100)


def test_the_words_are_cut_as_tiktoken_cuts_them_for_gpt2() -> None:
    openai_public = pytest.importorskip("tiktoken_ext.openai_public")
    if not hasattr(openai_public, "r50k_pat_str"):
        pytest.skip("this tiktoken does not name its pattern")
    assert openai_public.r50k_pat_str == GPT2_PATTERN


@pytest.mark.parametrize("letters", ["a", "aab", "abcdefgh"])
@pytest.mark.parametrize("length", [999, 1000])
def test_one_uncut_word_gives_the_merges_of_recounting_everything(letters: str, length: int) -> None:
    text = random_text(length, letters, length)
    assert learn_merges(text, 100) == merges_by_recounting(text, 100)


def test_a_word_four_times_as_long_takes_no_more_than_about_four_times_as_long() -> None:
    seconds = []
    for length in (25_000, 100_000):
        text = random_text(0, "abcdefghij", length)
        start = time.perf_counter()
        assert len(learn_merges(text, 512)) == 512
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < max(10 * seconds[0], 1.0)  # with a time that grows with the square, 16 and minutes


@pytest.mark.slow
def test_a_million_of_one_letter_are_learned_from() -> None:
    a = ord("a")
    assert learn_merges("a" * 1_000_000, 3) == [(a, a), (256, 256), (257, 257)]


def test_a_slow_training_shows_a_bar_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for terminal in (True, False):
        stderr = StringIO()
        monkeypatch.setattr(stderr, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr("sys.stderr", stderr)
        monkeypatch.setattr("nanograd_gpt.tokenizer.bpe.BAR_DELAY_SECONDS", 0.0)
        learn_merges(story(), 20)
        shown[terminal] = stderr.getvalue()
    assert "tokenizer" in shown[True]
    assert "20/20" in shown[True]
    assert shown[False] == ""


def test_512_merges_of_the_story_take_far_less_than_two_seconds() -> None:
    start = time.perf_counter()
    assert len(learn_merges(story(), 512)) == 512
    assert time.perf_counter() - start < 2


def story() -> str:
    return (resources.files("nanograd_gpt") / "assets" / "story.txt").read_text(encoding="utf-8")
