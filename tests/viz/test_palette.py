"""Contrast of the colours of figures."""

from __future__ import annotations

import pytest
from contrast import contrast

from nanograd_gpt.viz.palette import DARK, INK, PAPER, SCALE


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_curves_have_the_contrast_of_wcag_aa(dark: bool) -> None:
    colours = {colour: DARK[colour] if dark else colour for colour in DARK}
    assert contrast(colours[INK], colours[PAPER]) >= 4.5
    for colour in DARK.keys() - {PAPER, *SCALE}:
        assert contrast(colours[colour], colours[PAPER]) >= 3, colour
