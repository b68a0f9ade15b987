"""README agrees with the files in benchmarks/results."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_every_figure_in_readme_comes_from_its_file(name):
    path = ROOT / name
    assert README["filled"](path) == path.read_text(encoding="utf-8"), "run: python benchmarks/readme.py"


def test_every_file_that_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = [
        word.strip("`()") for word in text.replace("](", " ").split() if word.strip("`()").endswith((".py", ".svg"))
    ]
    assert len(named) > 5
    rooms = [ROOT, ROOT / "nanograd_gpt"]
    assert [name for name in named if not any((room / name).exists() for room in rooms)] == []
