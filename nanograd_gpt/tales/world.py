"""The memory of a tale: who is where, what lies where, and who holds what."""

from __future__ import annotations

from .grammar import THINGS, Event


class World:
    """The state of a tale after its sentences so far."""

    def __init__(self) -> None:
        self.place: dict[str, str] = {}  # of each person, and of each thing that lies somewhere
        self.holder: dict[str, str] = {}  # of each thing that a person holds
        self.ended = False

    def objection(self, event: Event) -> str | None:
        """The reason why an event contradicts what was told before; None if it does not."""
        form, who, other, thing, place = event
        here = self.place.get(who)
        if self.ended:
            return "the tale has ended"
        if form == "ended":
            return None
        if form == "once":
            return "the tale has begun already" if self.place else None
        if form == "was":
            return f"{who} is {here} already" if here else None
        if form == "lay":
            told = thing in self.place or thing in self.holder
            return f"the tale has placed the {thing} already" if told else None
        if here is None:
            return f"the tale has not said where {who} is"
        if form == "went":
            return f"{who} is {place} already" if here == place else None
        if form == "found":
            return None if self.place.get(thing) == place else f"the {thing} does not lie {place}"
        if form == "asked":
            return None if self.holder.get(thing, who) != who else f"nobody else holds the {thing}"
        if self.holder.get(thing) != who:
            return f"{who} does not hold the {thing}"
        return f"{who} is the one who sends" if who == other else None

    def tell(self, event: Event) -> None:
        """Remember an event, even one that contradicts what was told before: later sentences go on from it."""
        form, who, other, thing, place = event
        if who and place:  # one who finds or leaves goes there
            self.place[who] = place
        if form in ("lay", "left"):
            self.holder.pop(thing, None)
            self.place[thing] = place
        elif form in ("found", "sent"):
            self.place.pop(thing, None)
            self.holder[thing] = other or who
        elif form == "ended":
            self.ended = True

    def lying(self) -> list[str]:
        """The things that lie somewhere."""
        return [name for name in self.place if name in THINGS]

    def held(self, who: str) -> list[str]:
        """The things that a person holds."""
        return [thing for thing, holder in self.holder.items() if holder == who]
