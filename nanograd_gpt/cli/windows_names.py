"""Names that no file can have on Windows."""

from __future__ import annotations

from pathlib import PureWindowsPath

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}
FORBIDDEN = {*'<>:"|?*', *map(chr, range(32))}


def why_not_on_windows(path: str) -> str | None:
    """The reason that a path cannot be used on Windows: a device's name, a character, a last dot or space; or None."""
    windows = PureWindowsPath(path)
    for part in windows.parts[1 if windows.anchor else 0 :]:
        if (character := next((c for c in part if c in FORBIDDEN), None)) is not None:
            return f"{part!r} has {character!r}, which names on Windows cannot have"
        if part.partition(".")[0].rstrip().upper() in DEVICES:
            return f"{part!r} is a device's name on Windows"
        if part != ".." and part[-1] in ". ":
            return f"{part!r} ends in a dot or a space, which Windows drops"
    return None
