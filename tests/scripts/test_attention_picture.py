"""Words on the colours of attention are legible, in light and dark."""

from __future__ import annotations

import pytest
from _attention_picture import LEGIBLE
from contrast import blended, contrast

from nanograd_gpt.viz.palette import BLUE, DARK, INK, PAPER

AA = 4.5  # WCAG's least contrast of text


@pytest.mark.parametrize(("colour", "ink", "paper"), [(BLUE, INK, PAPER), (DARK[BLUE], DARK[INK], DARK[PAPER])])
def test_a_word_has_enough_contrast_on_the_strongest_colour_behind_it(colour: str, ink: str, paper: str) -> None:
    assert contrast(ink, blended(colour, LEGIBLE, paper)) >= AA
