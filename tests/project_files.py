"""The project's own Python files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nanograd_gpt"


def sources() -> list[Path]:
    """Every Python file of package, tests, scripts and benchmarks, in order."""
    folders = [PACKAGE, *(ROOT / name for name in ("tests", "scripts", "benchmarks"))]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def short(path: Path) -> str:
    """A file's path from the project's root."""
    return path.relative_to(ROOT).as_posix()
