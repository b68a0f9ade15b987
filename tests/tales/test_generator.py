"""The generator of tales, judged by the checker."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from time import perf_counter

import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.tales.checker import judge
from nanograd_gpt.tales.generator import TALE_TOKENS, TRAINED_ON, write_tales
from nanograd_gpt.tales.grammar import FORMS, PEOPLE, PLACES, THINGS, Event, read_sentence, split_sentences
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.corpus import split_text

TEXT = write_tales()
TALES = TEXT.splitlines()
EVENTS = [[read_sentence(text) or Event("none") for text in split_sentences(tale)] for tale in TALES]


def test_every_tale_is_grammatical_and_consistent() -> None:
    for tale in TALES:
        found = judge(tale)
        assert found.faults == []
        assert found.tested >= 4


def test_the_text_has_1_to_2_megabytes_and_hardly_a_tale_twice() -> None:
    assert 1_200_000 <= len(TEXT.encode()) < 2_000_000
    assert TEXT.endswith("\n")
    assert len(set(TALES)) > 0.999 * len(TALES)


def test_a_megabyte_takes_about_a_second() -> None:
    started = perf_counter()
    write_tales(1_000_000)
    assert perf_counter() - started < 10, "a machine that does other things too may need a few seconds"


def test_the_same_seed_writes_the_same_text_and_another_seed_another() -> None:
    assert write_tales(5000, seed=1) == write_tales(5000, seed=1)
    assert write_tales(5000, seed=1).splitlines()[:3] != write_tales(5000, seed=2).splitlines()[:3]


def test_longer_text_continues_shorter_text() -> None:
    short = write_tales(3000)
    assert TEXT.startswith(short)


def test_all_words_and_forms_occur_and_no_form_is_rare() -> None:
    events = [event for tale in EVENTS for event in tale]
    forms = Counter(event.form for event in events)
    assert set(forms) == set(FORMS)
    assert min(forms.values()) > len(TALES) / 20
    for field, words in (("who", PEOPLE), ("thing", THINGS), ("place", PLACES)):
        assert {getattr(event, field) for event in events} - {""} == set(words)
    assert {tale[-1].form for tale in EVENTS} == {"ended"}


def test_both_people_act_first_about_equally_often() -> None:
    first = Counter(tale[4].who for tale in EVENTS)
    assert max(first.values()) < 1.1 * min(first.values())


def test_who_asks_is_answered() -> None:
    for tale in EVENTS:
        for event, answer in pairwise(tale[:-1]):  # a tale may end with a question
            if event.form == "asked":
                assert (answer.form, answer.other, answer.thing) == ("sent", event.who, event.thing)


def test_a_window_of_the_default_tokenizer_holds_one_tale() -> None:
    tokenizer = train_tokenizer(TEXT, 512)
    ids = tokenizer.encode(TEXT)
    assert len(ids) == TALE_TOKENS * len(TALES)
    newline, once = tokenizer.encode("\n"), tokenizer.encode("Once")
    assert [ids[TALE_TOKENS - 1 :: TALE_TOKENS], ids[::TALE_TOKENS]] == [newline * len(TALES), once * len(TALES)]


def test_the_validation_text_begins_with_a_tale() -> None:
    train, val, _ = split_text(TEXT, TRAINED_ON)
    assert train.endswith("\n")
    assert val.startswith("Once ")
    assert len(val.splitlines()) > 400


@pytest.mark.parametrize(("characters", "seed"), [(0, 0), (-1, 0), (1.5, 0), (100, -1)])
def test_values_out_of_range_are_refused(characters: int, seed: int) -> None:
    with pytest.raises(InputError, match=r"^(characters|seed): "):
        write_tales(characters, seed)
