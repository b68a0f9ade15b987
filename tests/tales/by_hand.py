"""Forty tales written by hand: twenty right ones, and twenty wrong ones with their faults."""

from __future__ import annotations

RIGHT = [
    "Once Anna was upstairs. And so it ended.",
    "Once Ben was outside. The salt was upstairs. Ben found salt upstairs. And so it ended.",
    "Once Mia was downtown. And Tom was upstairs. Mia met Tom upstairs. And so it ended.",
    "Once Tom was outside. The bread was outside. Tom found bread outside. Tom left bread upstairs.",
    "Once Mia was upstairs. And Tom was upstairs. The honey was upstairs. Mia found honey upstairs. "
    "Mia gave Tom honey.",
    "Once Tom was outside. And Mia was downtown. The milk was outside. Tom found milk outside. Tom met Mia downtown. "
    "Tom gave Mia milk. Then Mia went outside. Mia left milk upstairs. And so it ended.",
    "Once Anna was upstairs. And Ben was upstairs. The salt was upstairs. Ben found salt upstairs. "
    "Anna asked for salt. "
    "Ben gave Anna salt. And so it ended.",
    # a thing lies where it was left last
    "Once Leo was upstairs. The milk was upstairs. Leo found milk upstairs. Leo left milk outside. "
    "Then Leo went downtown. Leo found milk outside.",
    "Once Mia was downtown. And Anna was outside. The salt was downtown. Mia found salt downtown. "
    "Mia left salt upstairs. Anna found salt upstairs. And so it ended.",
    # one who finds, leaves or meets goes there
    "Once Ben was outside. And Tom was upstairs. The bread was downtown. Ben found bread downtown. "
    "Tom met Ben downtown. Tom asked for bread. Ben gave Tom bread.",
    "Once Ida was outside. And Leo was upstairs. Ida met Leo upstairs. Then Ida went outside. Leo met Ida outside.",
    # two things in one hand
    "Once Anna was downtown. The honey was downtown. The milk was outside. Anna found honey downtown. "
    "Anna found milk outside. Anna left honey downtown. Then Anna went outside. Anna left milk upstairs.",
    # given back and forth
    "Once Tom was upstairs. And Mia was upstairs. The bread was upstairs. Tom found bread upstairs. "
    "Tom gave Mia bread. "
    "Mia gave Tom bread. Tom gave Mia bread.",
    # asked, and not answered: impolite, but possible
    "Once Tom was outside. And Ben was outside. The milk was outside. Ben found milk outside. Tom asked for milk. "
    "Ben left milk downtown. And so it ended.",
    # three people
    "Once Anna was outside. And Ben was outside. And Mia was upstairs. The salt was outside. Ben found salt outside. "
    "Mia met Ben outside. Ben gave Mia salt. Mia gave Anna salt. Ben asked for salt.",
    # people and things that appear late
    "Once Anna was outside. Then Anna went upstairs. And Tom was upstairs. The tea was upstairs. "
    "Tom found tea upstairs. "
    "Tom gave Anna tea. And so it ended.",
    # an opening in another order than the generator's
    "The honey was outside. And Mia was outside. Mia found honey outside. Mia left honey outside. "
    "Then Mia went upstairs.",
    # back to where one was before, and to one who is here already
    "Once Mia was outside. And Ida was outside. Mia met Ida outside. Then Mia went upstairs. Then Mia went outside.",
    # nothing happens
    "Once Mia was downstairs. And Ben was downstairs. The honey was upstairs. The rice was outside.",
    "Once Ben was downstairs. And Tom was outside. Then Ben went outside. Then Tom went downstairs. "
    "Then Ben went downstairs. And so it ended.",
]

NOT_GRAMMATICAL = "not grammatical"
WRONG: list[tuple[str, list[tuple[str, str]]]] = [  # each with its sentences at fault, and why
    ("Once Anna upstairs. And so it ended.", [("Once Anna upstairs.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Ben found found salt.", [("Ben found found salt.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then Mia went to upstairs.", [("Then Mia went to upstairs.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then milk went upstairs.", [("Then milk went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Tom was the bread.", [("Once Tom was the bread.", NOT_GRAMMATICAL)]),
    ("Once Tom was outside. then Tom went upstairs.", [("then Tom went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Mia was outside. Then Mia went", [("Then Mia went", NOT_GRAMMATICAL)]),  # cut short
    ("Once Mia was outside.. And so it ended.", [(".", NOT_GRAMMATICAL)]),
    ("Once Tom was outside. Then Tom went outside.", [("Then Tom went outside.", "Tom is outside already")]),
    ("Once Tom was outside. And Tom was upstairs.", [("And Tom was upstairs.", "Tom is outside already")]),
    (
        "Once Anna was upstairs. The bread was outside. Anna found bread upstairs.",
        [("Anna found bread upstairs.", "the bread does not lie upstairs")],
    ),
    (  # Ben holds it
        "Once Anna was outside. And Ben was outside. The salt was outside. Ben found salt outside. "
        "Anna found salt outside.",
        [("Anna found salt outside.", "the salt does not lie outside")],
    ),
    (
        "Once Tom was outside. And Mia was upstairs. The milk was outside. Tom found milk outside. Tom gave Mia milk.",
        [("Tom gave Mia milk.", "Mia is not with Tom")],
    ),
    (  # given away
        "Once Mia was outside. And Tom was outside. The salt was outside. Mia found salt outside. Mia gave Tom salt. "
        "Mia left salt upstairs. And so it ended.",
        [("Mia left salt upstairs.", "Mia does not hold the salt")],
    ),
    (  # it lies there, and nobody holds it
        "Once Ben was outside. And Tom was outside. The milk was outside. Tom asked for milk.",
        [("Tom asked for milk.", "nobody with Tom holds the milk")],
    ),
    (  # Mia has gone
        "Once Mia was outside. And Leo was downtown. Then Mia went upstairs. Leo met Mia outside.",
        [("Leo met Mia outside.", "Mia is not outside")],
    ),
    (
        "Once Mia was outside. Then Tom went upstairs.",
        [("Then Tom went upstairs.", "the tale has not said where Tom is")],
    ),
    (
        "Once Mia was outside. The salt was outside. Mia found salt outside. The salt was upstairs.",
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
        "Once Ben was outside. The bread was upstairs. Ben found bread downtown. Ben gave Ben bread. "
        "Ben left bread upstairs.",
        [
            ("Ben found bread downtown.", "the bread does not lie downtown"),
            ("Ben gave Ben bread.", "Ben is not with Ben"),
        ],
    ),
]
