"""The judge of tales, against tales written by hand."""

from __future__ import annotations

import pytest
from tales.by_hand import NOT_GRAMMATICAL, RIGHT, WRONG

from nanograd_gpt.tales.checker import Judgement, Score, judge, score
from nanograd_gpt.tales.grammar import (
    FORMS,
    SENTENCE_TOKENS,
    WORDS,
    Event,
    read_sentence,
    sentence,
    split_sentences,
)


def test_there_are_twenty_right_tales_and_twenty_wrong_ones() -> None:
    assert len(set(RIGHT)) == len({tale for tale, _ in WRONG}) == 20


@pytest.mark.parametrize("tale", RIGHT)
def test_a_right_tale_has_no_fault(tale: str) -> None:
    found = judge(tale)
    assert found.faults == []
    assert found.sentences == found.grammatical == tale.count(".")
    assert found.tested == found.consistent


@pytest.mark.parametrize(("tale", "faults"), WRONG)
def test_a_wrong_tale_has_its_faults_and_no_others(tale: str, faults: list[tuple[str, str]]) -> None:
    found = judge(tale)
    assert found.faults == faults
    assert found.sentences - found.grammatical == sum(why == NOT_GRAMMATICAL for _, why in faults)
    assert found.tested - found.consistent == len(faults)


@pytest.mark.parametrize(
    ("tale", "tested"),
    [
        ("Once Anna was upstairs. The milk was outside. And so it ended.", 0),
        ("Once Anna was upstairs. The milk was outside. Then Anna went outside. Anna found milk outside.", 2),
        ("Once Anna was upstairs. And Anna was outside. And so it ended.", 1),
        ("Once Anna was upstairs. Then Anna went outside. And Ben was outside. And so it ended.", 2),
        ("Once Anna was upstairs. Anna waited. The milk was outside. And so it ended.", 2),
        ("Once Anna was upstairs. And so it ended. And so it ended.", 1),
    ],
    ids=["opening and ending", "plot", "an opening that contradicts", "late", "after a wrong sentence", "ended twice"],
)
def test_sentences_after_the_opening_are_tested(tale: str, tested: int) -> None:
    assert judge(tale).tested == tested


@pytest.mark.parametrize("tale", ["", "\n", "  "])
def test_an_empty_tale_scores_nothing(tale: str) -> None:
    assert judge(tale) == Judgement(0, 0, 0, 0, [])


def test_a_sentence_without_its_stop_is_not_grammatical() -> None:
    assert split_sentences("Once Anna was upstairs.  And so. The") == ["Once Anna was upstairs.", "And so.", "The"]
    assert judge("Once Anna was upstairs") == Judgement(1, 0, 1, 0, [("Once Anna was upstairs", NOT_GRAMMATICAL)])


def test_a_score_sums_judgements_and_counts_copies() -> None:
    right, (wrong, _) = RIGHT[1], WRONG[8]
    known = {f"{right} ", wrong}  # the first with a space more: not word for word
    assert judge(right) == Judgement(4, 4, 1, 1, [])
    assert score([right, wrong, wrong], known) == Score(3, 8, 8, 3, 1, copies=2)


def test_a_part_of_a_training_tale_is_not_a_copy() -> None:
    assert score(["Once Anna was upstairs."], {RIGHT[0]}).copies == 0


def test_no_tales_have_a_score_of_zeros() -> None:
    assert score([], set()) == Score(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_it_was_written(form: str) -> None:
    event = Event(form, **{name: WORDS[name][-1] for name in WORDS if f"{{{name}}}" in FORMS[form]})
    assert read_sentence(sentence(event)) == event
    assert len(sentence(event)[:-1].split()) + 1 == SENTENCE_TOKENS
