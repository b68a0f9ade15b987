"""The colours of figures, each with the one that replaces it in dark mode."""

from __future__ import annotations

# Okabe and Ito's palette (2008), which is safe for colour-blind readers
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
INK, PAPER = "#24292f", "#ffffff"

DARK = {
    INK: "#e6e9ec",
    PAPER: "#14181d",
    BLUE: "#56b4e9",
    ORANGE: "#f0863a",
    GREEN: "#2fc79a",
    PURPLE: "#dd9cc1",
}
