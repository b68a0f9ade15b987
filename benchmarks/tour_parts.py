"""README's tour: which deep dive draws each picture, and its sentence, whose numbers the deep dive has printed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Picture(NamedTuple):
    """A picture of the tour."""

    name: str  # of the deep dive
    sentence: str
    numbers: Sequence[str]  # patterns in what it prints: their groups fill the sentence
    narrow: bool = False  # has a version for phones


PICTURES = (
    Picture(
        "01_backpropagation",
        "**Backpropagation.** Each node of an expression has a value, and the gradient that comes back to it: "
        "`dg/da` is {}, as a formula says.",
        [r"dg/da = ([\d.]+)"],
        narrow=True,
    ),
    Picture(
        "13_where_the_memory_goes",
        "**Memory.** Forward saves what backward will read: {} MiB are in use before a training step of the small "
        "model, and {} MiB between forward and backward.",
        [r"model and AdamW +([\d.]+)", r"forward, loss +([\d.]+)"],
    ),
    Picture(
        "06_attention_anatomy",
        "**Attention.** To say where a thing was found, one head of a trained model gives {} of its attention to the "
        "word that decides; without this head, {} of the answers are right in place of {}.",
        [r"gives the deciding place (\d+%)", r"without the head: (\d+%)", r"places that are right: (\d+%)"],
    ),
    Picture(
        "10_learning_to_write",
        "**Learning to write.** Six moments of one training: in epoch {} each sentence is grammatical, and {} agree "
        "with the tale; in epoch {}, {} agree, and the word that the text asks for has {}.",
        [
            r"epoch ([\d.]+) +100% grammatical",
            r"100% grammatical, +(\d+%) consistent",
            r"epoch (\d+)\.00 .*\n.*\n.*\n\n",
            r"(\d+%) consistent.*\n.*\n.*\n\n",
            r"is the likeliest, (\d+%)",
        ],
    ),
    Picture(
        "learning_or_memorising",
        "**Learning or memorising.** A story is stored: its validation loss ends at {}, after {}. Of the tales, the "
        "rules are learned: {} of sentences are grammatical, {} consistent.",
        [
            r"at its lowest, ([\d.]+) at the end",
            r"validation loss ([\d.]+) at its lowest",
            r"(\d+%) of sentences are grammatical",
            r"(\d+%) of sentences are consistent",
        ],
    ),
)


def tour(facts: Mapping[str, Any]) -> str:
    """The tour in Markdown: each picture with its sentence, and the command that draws it."""
    return "\n\n".join(_shown(picture, facts[picture.name]) for picture in PICTURES)


def _shown(picture: Picture, facts: Mapping[str, Any]) -> str:
    printed = "\n".join(facts["printed"])
    numbers = [_number(pattern, printed) for pattern in picture.numbers]
    number = re.match(r"0*(\d+)_", picture.name)
    command = f"`nanograd-gpt learn {number[1] if number else picture.name}`"
    what = re.sub(r"\*\*|\.\*\*.*", "", picture.sentence.split(".**")[0])
    file = f"benchmarks/results/tour_{picture.name}"
    image = f"![{what}]({file}.svg)"
    if picture.narrow:
        phone = f'<source media="(max-width: 600px)" srcset="{file}_narrow.svg">'
        image = f'<picture>{phone}<img src="{file}.svg" alt="{what}"></picture>'
    return f"{picture.sentence.format(*numbers)} ({command})\n\n{image}"


def _number(pattern: str, printed: str) -> str:
    found = re.search(pattern, printed)
    if found is None:
        raise ValueError(f"the deep dive has not printed {pattern!r}; run python benchmarks/tour.py again")
    return found[1]
