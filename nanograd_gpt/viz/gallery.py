"""A page of all pictures that the deep dives have drawn, in one file without network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..files import write_whole

WIDE = ' class="wide"'
NARROW = "_narrow"  # ends the name of a picture's version for phones

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What the deep dives have drawn</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #59636e; --line: #d8dee4; --link: #0060a0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4af; --line: #30363d;
  --link: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; }
h2 { margin: 0 0 .5rem; font-size: 1rem; }
p { margin: 0 0 1rem; }
.soft, code { color: var(--soft); overflow-wrap: anywhere; }
a { color: var(--link); }
main { columns: 23rem; column-gap: 2rem; }
.wide { column-span: all; }
article { break-inside: avoid; padding: 1rem 0; border-top: 1px solid var(--line); }
img { display: block; width: 100%; max-width: 27rem; height: auto; margin: 0 auto; }
.wide img { max-width: 60rem; }
li { margin: 0 0 .5rem; }
</style></head><body>
<h1>What the deep dives have drawn</h1>
<p class="soft">SUMMARY</p>
<main>
CARDS
</main>
TO_DRAW
</body></html>
"""


class Exhibit(NamedTuple):
    """A deep dive in the gallery."""

    name: str
    question: str
    command: str  # that draws it


def picture_of(directory: Path, name: str) -> Path | None:
    """The SVG file that a deep dive has drawn into a directory, if it has."""
    path = directory / f"{name}.svg"
    return path if path.is_file() else None


def write_gallery(directory: Path, exhibits: Sequence[Exhibit]) -> Path:
    """Write directory/index.html with the pictures that are there, and what is still to be drawn; returns its path."""
    drawn = [exhibit for exhibit in exhibits if picture_of(directory, exhibit.name)]
    others = [exhibit for exhibit in exhibits if exhibit not in drawn]
    page = PAGE.replace("SUMMARY", f"{len(drawn)} of {len(exhibits)}. Each is drawn by the command above it.")
    page = page.replace("TO_DRAW", _list(others) if others else "")
    page = page.replace("CARDS", "\n".join(_card(directory, exhibit) for exhibit in drawn))
    write_whole(directory / "index.html", page.encode())
    return directory / "index.html"


def _list(exhibits: Sequence[Exhibit]) -> str:
    items = [f"<li>{escape(e.question)}<br><code>{escape(e.command)}</code></li>" for e in exhibits]
    return "\n".join(["<h2>Not drawn yet</h2>", "<ul>", *items, "</ul>"])


def _card(directory: Path, exhibit: Exhibit) -> str:
    narrow, picture = _narrow(directory, exhibit.name), directory / f"{exhibit.name}.svg"
    lines = [
        f"<article{WIDE if narrow else ''}><h2>{escape(exhibit.question)}</h2>",
        f"<p><code>{escape(exhibit.command)}</code></p>",
        f"<picture>{narrow}",
        f'<img src="{_inline(picture)}" alt="The figure of {escape(exhibit.name)}"></picture>',
    ]
    if (directory / f"{exhibit.name}.html").is_file():
        lines.append(f'<p><a href="{escape(exhibit.name)}.html">Step by step</a></p>')
    return "\n".join([*lines, "</article>"])


def _narrow(directory: Path, name: str) -> str:
    narrow = picture_of(directory, name + NARROW)
    return f'<source media="(max-width: 40rem)" srcset="{_inline(narrow)}">' if narrow else ""


def _inline(picture: Path) -> str:
    """A picture as a URL that holds it; as an image, its ids cannot clash with another's."""
    return f"data:image/svg+xml;base64,{b64encode(picture.read_bytes()).decode()}"
