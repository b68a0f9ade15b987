"""The size of the text in a figure's SVG file, in which matplotlib draws text as outlines of 100 units."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from math import inf

PHONE = 358  # pixels: a screen of 390 without the margins of 16
SVG = "{http://www.w3.org/2000/svg}"


def smallest_text(svg: str, column: int = PHONE) -> float:
    """Pixels of a figure's smallest text, exponents included, where a page scales it down to a column's width."""
    root = ET.fromstring(svg)
    points = [_smallest(group) for group in root.iter(f"{SVG}g") if group.get("id", "").startswith("text_")]
    width = float(root.attrib["width"].removesuffix("pt"))
    return min(points) * min(column / width, 96 / 72)


def _smallest(element: ET.Element, scale: float = 100) -> float:
    """Points of the smallest outline in an element.  An outline in <defs>, of 64 units to a pixel, is not drawn."""
    _, _, after = element.get("transform", "").partition("scale(")
    scale *= float(after.replace(")", " ").split()[0]) if after else 1
    if element.tag == f"{SVG}use":
        return scale
    return min((_smallest(child, scale) for child in element if child.tag != f"{SVG}defs"), default=inf)
