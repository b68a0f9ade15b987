"""Tales by a grammar with a memory: two people find, leave, send and ask for two things.

Every tale has the same number of sentences, and every sentence of tokens: a window of TALE_TOKENS holds one tale from
its first word to its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..arguments import whole_number
from ..rng import Generator, RandomStream
from .grammar import PEOPLE, PLACES, SENTENCE_TOKENS, THINGS, Event, sentence
from .world import World

T = TypeVar("T")

SENTENCES = 13  # of a tale
TALE_TOKENS = SENTENCES * SENTENCE_TOKENS + 1  # with the newline after it
CHARACTERS = 1_200_000
TRAINED_ON = 0.9  # the usual share of a text to train on
AT_ONCE = 1 << 16  # random numbers


class Dice:
    """Choices by a random stream."""

    def __init__(self, rng: RandomStream) -> None:
        self.rng = rng
        self.numbers: list[float] = []

    def choose(self, items: Sequence[T]) -> T:
        """One of the items, each with the same probability."""
        if not self.numbers:
            self.numbers = self.rng.uniform((AT_ONCE,)).tolist()  # one call for many: a call takes microseconds
        return items[int(self.numbers.pop() * len(items))]


def write_tales(characters: int = CHARACTERS, seed: int = 0) -> str:
    """Tales, one a line: at least `characters` of text, the same for the same seed.

    characters          int >= 1 [1,200,000]: the text ends with the first tale that reaches them, or a few hundred
                        tales later, so that its first 90% end with a tale too
    seed                int in 0 .. 2^64 - 1 [0]

    Raises InputError for values out of range.

    >>> tale = write_tales(100, seed=1).splitlines()[0]
    >>> tale[:100]
    'Once Anna was upstairs. And Ben was upstairs. The bread was upstairs. The milk was downtown. Anna fo'
    """
    characters = whole_number("characters", characters, 1)
    dice = Dice(Generator(seed))
    tales, length, ends = list[str](), 0, set[int]()
    while length < characters or int(TRAINED_ON * length) not in ends:
        tales.append(write_tale(dice))
        length += len(tales[-1])
        ends.add(length)
    return "".join(tales)


def write_tale(dice: Dice) -> str:
    """One tale of SENTENCES sentences, with its newline."""
    world, told = World(), list[Event]()
    events = [Event(form, who, place=dice.choose(PLACES)) for form, who in zip(("once", "was"), PEOPLE, strict=True)]
    events += [Event("lay", thing=thing, place=dice.choose(PLACES)) for thing in THINGS]
    who, other = PEOPLE if dice.choose(range(2)) else PEOPLE[::-1]
    while len(told) + len(events) < SENTENCES:
        for event in events:
            world.tell(event)
        told += events
        if dice.choose(range(4)) == 0:  # now the other one acts; mostly, the same person goes on
            who, other = other, who
        events = _next(dice, world, who, other)
    told += events[: SENTENCES - 1 - len(told)]
    return f"{' '.join(map(sentence, [*told, Event('ended')]))}\n"


def _next(dice: Dice, world: World, who: str, other: str) -> list[Event]:
    """One of the things that a person can do now, with what follows from it."""
    here = world.place[who]
    elsewhere = dice.choose([place for place in PLACES if place != here])
    choices = [[Event("went", who, place=elsewhere)]]
    choices += [[Event("found", who, thing=thing, place=world.place[thing])] for thing in world.lying()]
    for thing in world.held(who):
        choices += [[Event("left", who, thing=thing, place=elsewhere)], [Event("sent", who, other, thing)]]
    for thing in world.held(other):
        choices += [[Event("asked", who, thing=thing), Event("sent", other, who, thing)]]
    return dice.choose(choices)
