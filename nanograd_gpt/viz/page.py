"""A page that needs no network: its frame, and figures and values as HTML in its colours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..files import write_whole
from .page_style import CSS
from .palette import BLUE, GREEN, INK, ORANGE, PAPER, PURPLE, SCALE

# CSS in place of the figures' colours, so that they follow dark mode
THEMED = {INK: "currentColor", BLUE: "var(--blue)", ORANGE: "var(--orange)", GREEN: "var(--green)"}
THEMED |= {PURPLE: "var(--purple)", PAPER: "var(--paper)"}
THEMED |= {colour: f"var(--h{i})" for i, colour in enumerate(SCALE)}


def write_html(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a page of these parts, without the empty ones; returns its path."""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>\n<body>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )
    write_whole(path, page.encode(errors="replace"))  # JSON may hold lone surrogates, which UTF-8 cannot encode
    return path


def figure_html(name: str, wide: bytes, narrow: bytes, caption: str) -> str:
    """A figure's SVG files for wide and for narrow screens: the style sheet shows one."""
    svgs = (
        f'<div class="{width}">{_inline(svg, f"{name}-{width}", caption)}</div>'
        for width, svg in (("wide", wide), ("narrow", narrow))
    )
    return f"<figure>{''.join(svgs)}<figcaption>{escape(caption)}</figcaption></figure>"


def _inline(file: bytes, name: str, label: str) -> str:
    """An SVG file as inline SVG, in the page's colours and width, with a prefix for its ids."""
    svg = file.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg (.*?)width="\S+" height="\S+"', rf'<svg role="img" aria-label="{escape(label)}" \1', svg, count=1
    )
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, themed in THEMED.items():
        svg = svg.replace(colour, themed)
    return svg


def setting_text(value: Any) -> str:
    """A value of a TOML or JSON file as text."""
    if isinstance(value, list):
        return "; ".join(map(setting_text, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
