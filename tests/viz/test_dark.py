"""Dark mode of a figure's SVG file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np

from nanograd_gpt.viz.dark import DARK, with_dark_mode
from nanograd_gpt.viz.plots import BLUE, GREEN, ORANGE, PURPLE, new_axes, rendered, style


def test_every_colour_of_a_figure_has_a_dark_one() -> None:
    with style():
        figure, axes = new_axes(4, 3)
        for i, color in enumerate((BLUE, ORANGE, GREEN, PURPLE)):
            axes.plot(np.arange(3) + i, color=color, label=f"line {i}")
        axes.legend()
    plain = rendered(figure, "svg")
    svg = with_dark_mode(plain).decode()
    colors = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", plain.decode()))
    assert colors == set(DARK)
    for color in colors:
        assert f'[style*="fill: {color}"]{{fill:{DARK[color]}!important}}' in svg
        assert f'[style*="stroke: {color}"]{{stroke:{DARK[color]}!important}}' in svg
    assert svg.count("prefers-color-scheme:dark") == 1
    assert ET.fromstring(svg.encode()).tag.endswith("svg")
