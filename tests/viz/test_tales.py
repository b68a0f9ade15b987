"""The figure and the caption of the tales that a model wrote."""

from __future__ import annotations

import numpy as np
import pytest
from svg_text import smallest_text

from nanograd_gpt.tales.checker import Score
from nanograd_gpt.viz.captions import tales_caption
from nanograd_gpt.viz.plots import NARROW, rendered
from nanograd_gpt.viz.tales import percentage, plot_tales

SCORES = [
    {"step": 0, "epoch": 1, "tokens": 500, **Score(50, 80, 0, 80, 0, 0)._asdict()},
    {"step": 300, "epoch": 1, "tokens": 150_000, **Score(50, 650, 648, 400, 200, 0)._asdict()},
    {"step": 600, "epoch": 2, "tokens": 300_000, **Score(50, 650, 650, 400, 360, 1)._asdict()},
]


@pytest.mark.parametrize("width", [NARROW, 4.0])
def test_the_figure_shows_three_shares_in_percent(width: float) -> None:
    figure = plot_tales(SCORES, tokens_per_epoch=250_000, width=width)
    curves = {line.get_label(): line for line in figure.axes[0].lines}
    grammatical, consistent, copied = curves.values()
    np.testing.assert_array_equal(grammatical.get_xdata(), [500, 150_000, 300_000])
    np.testing.assert_allclose(grammatical.get_ydata(), [0, 100 * 648 / 650, 100])
    np.testing.assert_allclose(consistent.get_ydata(), [0, 50, 90])
    np.testing.assert_allclose(copied.get_ydata(), [0, 0, 2])
    assert figure.axes[0].get_ylabel() == "Share (%)"
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == list(curves)
    assert smallest_text(rendered(figure, "svg").decode()) >= 11


def test_a_share_of_nothing_is_a_gap() -> None:
    assert np.isnan(percentage(0, 0))
    assert percentage(1, 4) == 25


def test_the_caption_says_when_each_skill_came() -> None:
    caption = tales_caption(SCORES)
    assert "100% of sentences are grammatical (nine tenths of that after 150,000 tokens)" in caption
    assert "90% of sentences are consistent (nine tenths of that after 300,000 tokens)" in caption
    assert caption.endswith("1 of the tales stands word for word in the training text.")
    assert tales_caption([]) == ""
    assert "0% of sentences" in tales_caption(SCORES[:1])
