"""The train step is timed in variants of nanograd_gpt's process: another interpreter, other environment variables."""

from __future__ import annotations

import sys
from pathlib import Path

import blas_kernels
import harness
import pytest
import variants
from benchmarks.test_harness import FAKE, TINY
from benchmarks.test_pythons import script

from nanograd_gpt.errors import InputError, RunError


@pytest.fixture
def fake_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender "ours" that answers without computing."""
    monkeypatch.setattr(harness, "CONTENDERS", tmp_path)
    (tmp_path / "ours.py").write_text(FAKE.format(losses=[2.0, 1.0], seconds=0.5), encoding="utf-8")


@pytest.mark.usefixtures("fake_ours")
def test_each_variant_runs_ours_on_its_interpreter_with_its_variables(tmp_path: Path) -> None:
    other = script(tmp_path / "other", f'echo "$CHOSEN" > {tmp_path / "used"}; exec {sys.executable} "$@"')
    options = {"this": {}, "other": {"python": other, "variables": {"CHOSEN": "yes"}}}
    samples = variants.compared(TINY, options, 2, 1)
    assert samples == {"this": [{"total": 0.5}] * 2, "other": [{"total": 0.5}] * 2}
    assert (tmp_path / "used").read_text() == "yes\n"


@pytest.mark.usefixtures("fake_ours")
def test_one_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    broken = script(tmp_path / "broken", "echo no such luck >&2; exit 1")
    with pytest.raises(RunError, match=r"^other: prepare failed: no such luck"):
        variants.compared(TINY, {"this": {}, "other": {"python": broken}}, 2, 1)


def test_blas_kernels_are_those_that_the_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = script(tmp_path / "python", 'echo "${OPENBLAS_CORETYPE:-Usual}"')
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert blas_kernels.kernels({}) == "Usual"
    assert blas_kernels.kernels({"OPENBLAS_CORETYPE": "Other"}) == "Other"
    with pytest.raises(
        InputError, match=r"^NAME: with OPENBLAS_CORETYPE=Usual, NumPy's BLAS uses Usual as without it; "
    ):
        blas_kernels.main(["Usual", "--out", str(tmp_path)])


def test_a_blas_that_does_not_tell_its_kernels_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "echo"))
    with pytest.raises(RunError, match=r"^NumPy's BLAS does not tell its kernels; OpenBLAS does$"):
        blas_kernels.kernels({})
    monkeypatch.setattr(sys, "executable", script(tmp_path / "broken", "echo no such luck >&2; exit 1"))
    with pytest.raises(RunError, match=r"^no such luck$"):
        blas_kernels.kernels({})
