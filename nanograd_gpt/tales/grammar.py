"""The grammar of the tales as data: words, and the forms of sentences.  One table writes sentences and reads them.

Every sentence has four words and a full stop: with a tokenizer learned from tales, five tokens.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PEOPLE = ("Anna", "Ben")
PLACES = ("downstairs", "downtown", "outside", "upstairs")
THINGS = ("bread", "milk")
WORDS = {"who": PEOPLE, "other": PEOPLE, "place": PLACES, "thing": THINGS}

FORMS = {
    "once": "Once {who} was {place}.",
    "was": "And {who} was {place}.",
    "lay": "The {thing} was {place}.",
    "went": "Then {who} went {place}.",
    "found": "{who} found {thing} {place}.",
    "left": "{who} left {thing} {place}.",
    "asked": "{who} asked for {thing}.",
    "sent": "{who} sent {other} {thing}.",
    "ended": "And so it ended.",
}
OPENING_FORMS = ("once", "was", "lay")
OPENING = "Once"  # the first word of a tale
SENTENCE_TOKENS = 5


class Event(NamedTuple):
    """The fact that a sentence tells: the name of its form, and the words in it."""

    form: str
    who: str = ""
    other: str = ""
    thing: str = ""
    place: str = ""


def sentence(event: Event) -> str:
    """The sentence that tells an event."""
    return FORMS[event.form].format(**event._asdict())


def read_sentence(text: str) -> Event | None:
    """The event that a sentence tells; None if it is not grammatical."""
    for form, pattern in PATTERNS.items():
        if found := pattern.fullmatch(text):
            return Event(form, **found.groupdict())
    return None


def split_sentences(tale: str) -> list[str]:
    """The sentences of a tale, each up to its full stop; the last may lack its stop."""
    return [found.strip() for found in re.findall(r"[^.]+\.?|\.", tale) if found.strip()]


def _pattern(form: str) -> re.Pattern[str]:
    """The regular expression of a form's sentences, with a group for each of the words to be filled in."""
    groups = {name: f"(?P<{name}>{'|'.join(words)})" for name, words in WORDS.items()}
    return re.compile(form.replace(".", r"\.").format(**groups))


PATTERNS = {name: _pattern(form) for name, form in FORMS.items()}
