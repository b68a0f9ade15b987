"""The train step is timed on interpreters that have the package, each version once."""

from __future__ import annotations

import sys
from pathlib import Path

import harness
import pytest
import pythons
from benchmarks.test_harness import FAKE, TINY

from nanograd_gpt.errors import InputError, RunError


def script(path: Path, text: str) -> str:
    """A program that stands for an interpreter."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_tells_its_version_and_numpys(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo 3.99.1t 9.8.7")
    assert pythons.described(python) == ("3.99.1t", {"python": python, "numpy": "9.8.7"})


def test_one_that_does_not_exist_or_lacks_the_package_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^PYTHON: nowhere/python: no such program; give the path of an interpreter$"):
        pythons.described("nowhere/python")
    bare = script(tmp_path / "bare", "echo ModuleNotFoundError: nanograd_gpt >&2; exit 1")
    with pytest.raises(RunError, match=r"bare: ModuleNotFoundError: nanograd_gpt; install the package there: "):
        pythons.described(bare)


def test_none_or_the_same_version_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^PYTHON: none is given; "):
        pythons.main(["--out", str(tmp_path)])
    with pytest.raises(InputError, match=r"^PYTHON: (\S+) and \S+ are both 3\.[\d.]+t?; give another one$"):
        pythons.main([sys.executable, "--out", str(tmp_path)])


def test_each_version_runs_ours_on_its_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CONTENDERS", tmp_path)
    (tmp_path / "ours.py").write_text(FAKE.format(losses=[2.0, 1.0], seconds=0.5), encoding="utf-8")
    other = script(tmp_path / "other", f'touch {tmp_path / "used"}; exec {sys.executable} "$@"')
    versions = {"3.11.0": {"python": sys.executable}, "3.99.0": {"python": other}}
    samples = pythons.compared(TINY, versions, 2, 1, 1)
    assert samples == {"3.11.0": [{"total": 0.5}] * 2, "3.99.0": [{"total": 0.5}] * 2}
    assert (tmp_path / "used").exists()


def test_one_that_fails_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CONTENDERS", tmp_path)
    (tmp_path / "ours.py").write_text(FAKE.format(losses=[2.0, 1.0], seconds=0.5), encoding="utf-8")
    broken = script(tmp_path / "broken", "echo no such luck >&2; exit 1")
    with pytest.raises(RunError, match=r"^Python 3\.99\.0: prepare failed: no such luck"):
        pythons.compared(TINY, {"3.11.0": {"python": sys.executable}, "3.99.0": {"python": broken}}, 2, 1, 1)
