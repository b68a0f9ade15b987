"""The colours of figures, each with the one that replaces it in dark mode."""

from __future__ import annotations

# Okabe and Ito's palette (2008), which is safe for colour-blind readers
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, PAPER = "#24292f", "#ffffff"

# Six steps from a small value to a large one, in heat maps
SCALE = ("#e3eef7", "#b5d3ea", "#7fb2da", "#4a8dc4", "#1f66a5", "#0b3c6e")
DARK_SCALE = ("#1f3142", "#264c6c", "#2e6c9f", "#4793cc", "#84bce8", "#d5eafc")

DARK = {
    INK: "#e6e9ec",
    PAPER: "#14181d",
    BLUE: "#56b4e9",
    ORANGE: "#f0863a",
    GREEN: "#2fc79a",
    PURPLE: "#dd9cc1",
} | dict(zip(SCALE, DARK_SCALE, strict=True))
