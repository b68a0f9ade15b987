"""Interpreters that have the package, each version once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pythons

from nanograd_gpt.errors import InputError, RunError


def script(path: Path, text: str) -> str:
    """A program that stands for an interpreter."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_tells_its_version_and_numpys(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo 3.99.1t 9.8.7")
    assert pythons.described(python) == ("Python 3.99.1t, NumPy 9.8.7", python)


def test_one_that_does_not_exist_or_lacks_the_package_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^PYTHON: nowhere/python: no such program; give the path of an interpreter$"):
        pythons.described("nowhere/python")
    bare = script(tmp_path / "bare", "echo ModuleNotFoundError: nanograd_gpt >&2; exit 1")
    with pytest.raises(RunError, match=r"bare: ModuleNotFoundError: nanograd_gpt; install the package there: "):
        pythons.described(bare)


def test_none_or_the_same_version_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^PYTHON: none is given; "):
        pythons.main(["--out", str(tmp_path)])
    with pytest.raises(
        InputError, match=r"^PYTHON: (\S+) and \S+ are both Python 3\.[\d.]+t?, NumPy [\d.]+; give another one$"
    ):
        pythons.main([sys.executable, "--out", str(tmp_path)])
