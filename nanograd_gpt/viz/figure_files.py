"""Files of figures: PNG, and SVG with a dark mode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..files import write_whole
from .dark import with_dark_mode
from .plots import rendered, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py


def save_figure(figure: Figure, path: str | Path) -> list[Path]:
    """Write path.png (150 dpi) and path.svg (with a dark mode), deterministically; returns both paths."""
    return write_drawn(drawn(figure), Path(path))


class Drawn(NamedTuple):
    """The bytes of a figure's files."""

    png: bytes
    svg: bytes


@style()
def drawn(figure: Figure) -> Drawn:
    """Draw a figure in both kinds.  The PNG keeps the SVG's layout, which takes as long to compute as to draw."""
    svg, engine = rendered(figure, "svg"), figure.get_layout_engine()
    figure.set_layout_engine(None)
    try:
        return Drawn(rendered(figure, "png"), svg)
    finally:
        figure.set_layout_engine(engine)


def svgs(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """The SVG files of figures, by name."""
    return {name: rendered(figure, "svg") for name, figure in figures.items()}


def write_drawn(files: Drawn, path: Path) -> list[Path]:
    """Write path.png and path.svg; returns both paths."""
    png, svg = (path.with_name(f"{path.name}.{kind}") for kind in Drawn._fields)
    write_whole(png, files.png)
    write_whole(svg, with_dark_mode(files.svg))
    return [png, svg]
