"""Forty tales written by hand: twenty right ones, and twenty wrong ones with their faults."""

from __future__ import annotations

RIGHT = [
    "Once Anna was upstairs. And so it ended.",
    "Once Ben was outside. The salt was outside. Ben took the salt. And so it ended.",
    "Once Mia was downtown. The milk was upstairs. Then Mia went upstairs. Mia took the milk.",
    "Once Tom was outside. The bread was outside. Tom took the bread. Then Tom went upstairs. Tom dropped the bread.",
    "Once Mia was upstairs. And Tom was upstairs. The honey was upstairs. Mia took the honey. Mia gave Tom honey.",
    "Once Tom was outside. And Mia was downtown. The milk was outside. Tom took the milk. Then Tom went downtown. "
    "Tom gave Mia milk. Then Mia went outside. Mia dropped the milk. And so it ended.",
    "Once Anna was upstairs. And Ben was upstairs. The salt was upstairs. Ben took the salt. Anna asked for salt. "
    "Ben gave Anna salt. And so it ended.",
    # a thing travels with the one who holds it, and lies where it was dropped
    "Once Ben was upstairs. The milk was upstairs. Ben took the milk. Then Ben went outside. Then Ben went downtown. "
    "Ben dropped the milk. Ben took the milk.",
    "Once Mia was downtown. And Anna was outside. The salt was downtown. Mia took the salt. Then Mia went upstairs. "
    "Mia dropped the salt. Then Anna went upstairs. Anna took the salt. And so it ended.",
    # the one who took it holds it still, after the other has come and gone
    "Once Ben was outside. And Tom was upstairs. The bread was outside. Ben took the bread. Then Tom went outside. "
    "Then Tom went upstairs. Then Ben went upstairs. Tom asked for bread. Ben gave Tom bread.",
    # back to where one was before
    "Once Mia was outside. Then Mia went upstairs. Then Mia went outside. Then Mia went upstairs.",
    # two things in one hand
    "Once Anna was downtown. The honey was downtown. The milk was downtown. Anna took the honey. Anna took the milk. "
    "Anna dropped the honey. Then Anna went outside. Anna dropped the milk. And so it ended.",
    # given back and forth
    "Once Tom was upstairs. And Mia was upstairs. The bread was upstairs. Tom took the bread. Tom gave Mia bread. "
    "Mia gave Tom bread. Tom gave Mia bread.",
    # asked, and not answered: impolite, but possible
    "Once Tom was outside. And Ben was outside. The milk was outside. Ben took the milk. Tom asked for milk. "
    "Then Ben went downtown. Ben dropped the milk. And so it ended.",
    # three people, of whom two stay together
    "Once Anna was outside. And Ben was outside. And Mia was upstairs. The salt was outside. Ben took the salt. "
    "Then Mia went outside. Ben gave Mia salt. Mia gave Anna salt. Ben asked for salt.",
    # people and things that appear late
    "Once Anna was outside. Then Anna went upstairs. And Tom was upstairs. The bread was upstairs. Tom took the bread. "
    "Tom gave Anna bread. And so it ended.",
    # an opening in another order than the generator's
    "The honey was outside. And Mia was outside. Mia took the honey. Mia dropped the honey. Then Mia went upstairs.",
    "Once Tom was downstairs. The milk was downstairs. Tom took the milk. Tom dropped the milk. Tom took the milk. "
    "Then Tom went outside. And so it ended.",
    # nothing happens
    "Once Mia was downstairs. And Ben was downstairs. The honey was upstairs. The milk was outside.",
    "Once Ben was downstairs. And Tom was outside. Then Ben went outside. Then Tom went downstairs. "
    "Then Ben went downstairs. And so it ended.",
]

NOT_GRAMMATICAL = "not grammatical"
WRONG: list[tuple[str, list[tuple[str, str]]]] = [  # each with its sentences at fault, and why
    ("Once Anna upstairs. And so it ended.", [("Once Anna upstairs.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Ben took took the salt.", [("Ben took took the salt.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then Mia went to upstairs.", [("Then Mia went to upstairs.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then milk went upstairs.", [("Then milk went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Tom was the bread.", [("Once Tom was the bread.", NOT_GRAMMATICAL)]),
    ("Once Tom was outside. then Tom went upstairs.", [("then Tom went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then Mia went", [("Then Mia went", NOT_GRAMMATICAL)]),  # cut short
    ("Once Mia was outside.. And so it ended.", [(".", NOT_GRAMMATICAL)]),
    ("Once Tom was outside. Then Tom went outside.", [("Then Tom went outside.", "Tom is outside already")]),
    ("Once Tom was outside. And Tom was upstairs.", [("And Tom was upstairs.", "Tom is outside already")]),
    (
        "Once Anna was upstairs. The bread was outside. Anna took the bread.",
        [("Anna took the bread.", "the bread does not lie upstairs, where Anna is")],
    ),
    (  # Ben holds it
        "Once Anna was outside. And Ben was outside. The salt was outside. Ben took the salt. Anna took the salt.",
        [("Anna took the salt.", "the salt does not lie outside, where Anna is")],
    ),
    (
        "Once Tom was outside. And Mia was upstairs. The milk was outside. Tom took the milk. Tom gave Mia milk.",
        [("Tom gave Mia milk.", "Mia is not with Tom")],
    ),
    (  # given away
        "Once Mia was outside. And Tom was outside. The salt was outside. Mia took the salt. Mia gave Tom salt. "
        "Mia dropped the salt. And so it ended.",
        [("Mia dropped the salt.", "Mia does not hold the salt")],
    ),
    (  # it lies there, and nobody holds it
        "Once Ben was outside. And Tom was outside. The milk was outside. Tom asked for milk.",
        [("Tom asked for milk.", "nobody with Tom holds the milk")],
    ),
    (
        "Once Anna was outside. The honey was outside. Anna took the honey. Anna gave Anna honey.",
        [("Anna gave Anna honey.", "Anna is not with Anna")],
    ),
    ("Once Mia was outside. Then Tom went upstairs.", [("Then Tom went upstairs.", "the tale has not said where Tom is")]),
    (
        "Once Mia was outside. The salt was outside. Mia took the salt. The salt was upstairs.",
        [("The salt was upstairs.", "the tale has told of the salt already")],
    ),
    (
        "Once Mia was outside. Once Tom was outside. And so it ended. Then Mia went upstairs.",
        [
            ("Once Tom was outside.", "the tale has begun already"),
            ("Then Mia went upstairs.", "the tale has ended"),
        ],
    ),
    (  # two faults: the second sentence is judged as if the first were true
        "Once Ben was outside. The bread was upstairs. Ben took the bread. Ben dropped the bread. Then Ben went outside.",
        [
            ("Ben took the bread.", "the bread does not lie outside, where Ben is"),
            ("Then Ben went outside.", "Ben is outside already"),
        ],
    ),
]
