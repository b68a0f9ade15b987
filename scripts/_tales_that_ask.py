"""The tales that ask most often where a thing is, for trainings with --fast.

A sentence with "found" asks it.  From tales with four of these, where most have two or three, a model of two blocks
learns in a few hundred updates to look for the answer.
"""

from __future__ import annotations

from typing import Any

from nanograd_gpt.tales.generator import write_tales

OUT_OF = 2_400_000  # characters
LEAST = 4


def tales_that_ask() -> tuple[str, dict[str, Any]]:
    """A text, a tale a line, and the settings of a short training on it."""
    tales = [tale for tale in write_tales(OUT_OF).splitlines(keepends=True) if tale.count(" found ") >= LEAST]
    text, trained_on = "".join(tales), len("".join(tales[: len(tales) * 9 // 10]))
    ratio = (trained_on + 0.5) / len(text)  # the part to train on ends with a tale, whatever the product's rounding
    return text, {"n_layers": 2, "lr": 4e-3, "warmup_steps": 60, "epochs": 40, "max_steps": 400, "train_ratio": ratio}
