"""Dark mode for a figure's SVG file."""

from __future__ import annotations

from .palette import DARK, SCALE


def with_dark_mode(svg: bytes) -> bytes:
    """Add CSS that replaces the colours of viz/palette.py where the reader prefers a dark colour scheme."""
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'  # matplotlib writes colours into style attributes
        for light, dark in DARK.items()
        if light not in SCALE or light.encode() in svg  # most figures have no heat map
        for what in ("fill", "stroke")
    )
    css = f"<style>svg{{color-scheme:light dark}}@media(prefers-color-scheme:dark){{{rules}}}</style>"
    return svg.replace(b"<defs>", f"{css}\n <defs>".encode(), 1)
