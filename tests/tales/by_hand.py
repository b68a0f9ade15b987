"""Forty tales written by hand: twenty right ones, and twenty wrong ones with their faults."""

from __future__ import annotations

RIGHT = [
    "Once Anna was upstairs. And so it ended.",
    "Once Ben was outside. The milk was upstairs. Ben found milk upstairs. And so it ended.",
    "Once Ben was downtown. And Anna was upstairs. Then Ben went upstairs. And so it ended.",
    "Once Anna was outside. The bread was outside. Anna found bread outside. Anna left bread upstairs.",
    "Once Ben was upstairs. And Anna was outside. The bread was upstairs. Ben found bread upstairs. "
    "Ben sent Anna bread.",
    "Once Anna was outside. And Ben was downtown. The milk was outside. Anna found milk outside. "
    "Anna sent Ben milk. Then Ben went outside. Ben left milk upstairs. And so it ended.",
    "Once Anna was upstairs. And Ben was upstairs. The milk was upstairs. Ben found milk upstairs. "
    "Anna asked for milk. Ben sent Anna milk. And so it ended.",
    # a thing lies where it was left last
    "Once Ben was upstairs. The milk was upstairs. Ben found milk upstairs. Ben left milk outside. "
    "Then Ben went downtown. Ben found milk outside.",
    "Once Ben was downtown. And Anna was outside. The milk was downtown. Ben found milk downtown. "
    "Ben left milk upstairs. Anna found milk upstairs. And so it ended.",
    # one who finds or leaves something goes there, and can go back
    "Once Ben was outside. The bread was downtown. Ben found bread downtown. Then Ben went outside.",
    "Once Anna was outside. The bread was outside. Anna found bread outside. Anna left bread upstairs. "
    "Then Anna went outside. Then Anna went upstairs.",
    # two things in one hand
    "Once Anna was downtown. The bread was downtown. The milk was outside. Anna found bread downtown. "
    "Anna found milk outside. Anna left bread downtown. Then Anna went outside. Anna left milk upstairs.",
    # sent back and forth
    "Once Ben was upstairs. And Anna was upstairs. The bread was upstairs. Ben found bread upstairs. "
    "Ben sent Anna bread. Anna sent Ben bread. Ben sent Anna bread.",
    # asked, and not answered: impolite, but possible
    "Once Anna was outside. And Ben was outside. The milk was outside. Ben found milk outside. "
    "Anna asked for milk. Ben left milk downtown. And so it ended.",
    # each holds something, and asks for the other's
    "Once Anna was outside. And Ben was upstairs. The milk was upstairs. The bread was outside. "
    "Anna found bread outside. "
    "Ben found milk upstairs. Anna asked for milk. Ben asked for bread. Anna sent Ben bread. Ben sent Anna milk.",
    # one who appears late
    "Once Anna was outside. Then Anna went upstairs. And Ben was upstairs. The bread was upstairs. "
    "Ben found bread upstairs. Ben sent Anna bread. And so it ended.",
    # an opening in another order than the generator's
    "The bread was outside. And Ben was outside. Ben found bread outside. Ben left bread outside. "
    "Then Ben went upstairs.",
    # sent to one of whom the tale has not told where he is
    "Once Anna was outside. The milk was outside. Anna found milk outside. Anna sent Ben milk. Anna asked for milk.",
    # nothing happens
    "Once Ben was downstairs. And Anna was downstairs. The bread was upstairs. The milk was outside.",
    "Once Ben was downstairs. And Anna was outside. Then Ben went outside. Then Anna went downstairs. "
    "Then Ben went downstairs. And so it ended.",
]

NOT_GRAMMATICAL = "not grammatical"
WRONG: list[tuple[str, list[tuple[str, str]]]] = [  # each with its sentences at fault, and why
    ("Once Anna upstairs. And so it ended.", [("Once Anna upstairs.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Ben found found milk.", [("Ben found found milk.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Then Ben went to upstairs.", [("Then Ben went to upstairs.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Then milk went upstairs.", [("Then milk went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Anna was the bread.", [("Once Anna was the bread.", NOT_GRAMMATICAL)]),
    ("Once Anna was outside. then Anna went upstairs.", [("then Anna went upstairs.", NOT_GRAMMATICAL)]),
    ("Once Ben was outside. Then Ben went", [("Then Ben went", NOT_GRAMMATICAL)]),  # cut short
    ("Once Ben was outside.. And so it ended.", [(".", NOT_GRAMMATICAL)]),
    ("Once Anna was outside. Then Anna went outside.", [("Then Anna went outside.", "Anna is outside already")]),
    ("Once Anna was outside. And Anna was upstairs.", [("And Anna was upstairs.", "Anna is outside already")]),
    (
        "Once Anna was upstairs. The bread was outside. Anna found bread upstairs.",
        [("Anna found bread upstairs.", "the bread does not lie upstairs")],
    ),
    (  # Ben holds it
        "Once Anna was outside. And Ben was outside. The milk was outside. Ben found milk outside. "
        "Anna found milk outside.",
        [("Anna found milk outside.", "the milk does not lie outside")],
    ),
    (  # it has been left elsewhere
        "Once Anna was outside. The milk was outside. Anna found milk outside. Anna left milk downtown. "
        "Anna found milk outside.",
        [("Anna found milk outside.", "the milk does not lie outside")],
    ),
    (  # sent away
        "Once Ben was outside. And Anna was outside. The milk was outside. Ben found milk outside. "
        "Ben sent Anna milk. Ben left milk upstairs. And so it ended.",
        [("Ben left milk upstairs.", "Ben does not hold the milk")],
    ),
    (  # it lies there, and nobody holds it
        "Once Ben was outside. And Anna was outside. The milk was outside. Anna asked for milk.",
        [("Anna asked for milk.", "nobody else holds the milk")],
    ),
    (  # Anna holds it herself
        "Once Anna was outside. The milk was outside. Anna found milk outside. Anna asked for milk. "
        "Then Anna went outside.",
        [
            ("Anna asked for milk.", "nobody else holds the milk"),
            ("Then Anna went outside.", "Anna is outside already"),
        ],
    ),
    (
        "Once Ben was outside. Then Anna went upstairs.",
        [("Then Anna went upstairs.", "the tale has not said where Anna is")],
    ),
    (
        "Once Ben was outside. The milk was outside. Ben found milk outside. The milk was upstairs.",
        [("The milk was upstairs.", "the tale has placed the milk already")],
    ),
    (
        "Once Ben was outside. Once Anna was outside. And so it ended. Then Ben went upstairs.",
        [("Once Anna was outside.", "the tale has begun already"), ("Then Ben went upstairs.", "the tale has ended")],
    ),
    (  # the second sentence is judged as if the first were true, so that Ben could send the bread, but not to himself
        "Once Ben was outside. The bread was upstairs. Ben found bread downtown. Ben sent Ben bread.",
        [
            ("Ben found bread downtown.", "the bread does not lie downtown"),
            ("Ben sent Ben bread.", "Ben is the one who sends"),
        ],
    ),
]
