"""Dark mode of a figure's SVG file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from nanograd_gpt.viz.dark import with_dark_mode
from nanograd_gpt.viz.figure_files import save_figure
from nanograd_gpt.viz.palette import BLUE, DARK, GREEN, ORANGE, PURPLE, SCALE
from nanograd_gpt.viz.plots import new_figure, rendered, style


def test_every_colour_of_a_figure_has_a_dark_one() -> None:
    with style():
        figure = new_figure(3)
        axes = figure.subplots()
        for i, color in enumerate((BLUE, ORANGE, GREEN, PURPLE, *SCALE)):
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


def test_a_figure_without_a_heat_map_has_no_rules_for_one() -> None:
    figure = new_figure(3)
    figure.subplots().plot([1, 2])
    svg = with_dark_mode(rendered(figure, "svg"))
    assert DARK[BLUE].encode() in svg
    assert not any(color.encode() in svg for color in SCALE)


def test_a_saved_svg_has_a_dark_mode(tmp_path: Path) -> None:
    figure = new_figure(3)
    figure.subplots().plot([1, 2])
    _, svg = save_figure(figure, tmp_path / "figure")
    assert svg.read_bytes() == with_dark_mode(rendered(figure, "svg"))
    assert b"prefers-color-scheme:dark" in svg.read_bytes()
