"""The pictures of README's tour, and the numbers in its sentences."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from project_files import ROOT
from svg_text import PHONE, smallest_text
from tour_parts import PICTURES, tour

RESULTS = ROOT / "benchmarks" / "results"


def facts() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = json.loads((RESULTS / "tour.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_can_be_read_on_a_phone_and_in_the_dark(picture) -> None:
    file = RESULTS / f"tour_{picture.name}{'_narrow' if picture.narrow else ''}.svg"
    svg = file.read_text(encoding="utf-8")
    assert svg.count("prefers-color-scheme") == 1
    if picture.narrow:
        assert float(ET.fromstring(svg).attrib["width"]) <= PHONE
    else:
        assert smallest_text(svg) >= 11


def test_the_tour_shows_each_picture_with_its_command() -> None:
    shown = tour(facts())
    for picture in PICTURES:
        assert shown.count(f"benchmarks/results/tour_{picture.name}.svg") == 1
    assert shown.count("`nanograd-gpt learn ") == len(PICTURES)
    assert all(Path(ROOT / part.split(")")[0]).is_file() for part in shown.split("](")[1:])


def test_a_number_that_was_not_printed_is_an_error() -> None:
    changed = facts()
    changed["01_backpropagation"]["printed"] = ["nothing"]
    with pytest.raises(ValueError, match=r"has not printed .*; run python benchmarks/tour.py again"):
        tour(changed)
