"""The judge of tales: which sentences are grammatical, and which agree with what the tale has told before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from .grammar import OPENING_FORMS, Event, read_sentence, split_sentences
from .world import World

NOT_GRAMMATICAL = "not grammatical"


class Judgement(NamedTuple):
    """Counts of a tale's sentences, and the faults found."""

    sentences: int
    grammatical: int
    tested: int  # sentences after the opening, which can contradict it, and those of the opening that do
    consistent: int  # tested sentences that are grammatical and contradict nothing before them
    faults: list[tuple[str, str]]  # each a sentence and the reason


class Score(NamedTuple):
    """Judgements of several tales, summed."""

    tales: int
    sentences: int
    grammatical: int
    tested: int
    consistent: int
    copies: int  # tales that stand word for word in the training text


def judge(tale: str) -> Judgement:
    """Judge a tale sentence by sentence, with a memory of who is where and who holds what.

    A sentence that is not grammatical counts as tested and not consistent.  One that contradicts is remembered all the
    same, and the next is judged as if it were true.

    >>> judge("Once Anna was upstairs. The milk was outside. Anna found milk upstairs.").faults
    [('Anna found milk upstairs.', 'the milk does not lie upstairs')]
    """
    world, in_opening = World(), True
    sentences, faults = split_sentences(tale), list[tuple[str, str]]()
    grammatical = tested = 0
    for text in sentences:
        event = read_sentence(text)
        in_opening = in_opening and event is not None and event.form in OPENING_FORMS
        fault = _fault(world, event)
        if fault is not None:
            faults.append((text, fault))
        if event is not None:
            grammatical += 1
            world.tell(event)
        tested += fault is not None or not (in_opening or (event is not None and event.form == "ended"))
    return Judgement(len(sentences), grammatical, tested, tested - len(faults), faults)


def _fault(world: World, event: Event | None) -> str | None:
    return NOT_GRAMMATICAL if event is None else world.objection(event)


def score(tales: Sequence[str], training_tales: Collection[str]) -> Score:
    """Judge tales, and count those that are among the tales of the training text, word for word."""
    judged = [judge(tale) for tale in tales]
    return Score(
        tales=len(tales),
        sentences=sum(found.sentences for found in judged),
        grammatical=sum(found.grammatical for found in judged),
        tested=sum(found.tested for found in judged),
        consistent=sum(found.consistent for found in judged),
        copies=sum(tale in training_tales for tale in tales),
    )
