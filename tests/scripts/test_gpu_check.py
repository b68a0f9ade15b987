"""scripts/gpu_check.py, dry: without a GPU, so that none of its few minutes is lost to a typing error."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cusim.checks import needs_compiler

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("gpu_check")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("more", [[], ["--only", "agreement", "memory", "generation"]], ids=["first", "of the second"])
def test_every_step_runs_dry_and_holds(
    more: list[str], script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "results.jsonl"
    code = script.main(["--dry-run", "--out", str(out), *more])
    found, printed = lines(out), capfd.readouterr().out
    assert code == 0, printed
    assert "failed" not in printed.splitlines()[-1]
    plan = script.SECOND[:3] if more else script.FIRST
    assert [line["step"] for line in found if "ended" in line] == [step.name for step in plan]
    assert not [line for line in found if "error" in line or not line.get("holds", True)]
    assert all(sum(line["step"] == step.name for line in found) > 1 for step in plan)


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_cupy_nothing_is_begun(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(script.UsageError, match=r"needs cupy, which is not installed; pip install 'cupy-cuda13x"):
        script.main(["--out", str(tmp_path / "out.jsonl")])
    assert not [*tmp_path.iterdir()]


def test_a_plan_takes_ten_minutes_at_most(script: ModuleType) -> None:
    assert all(sum(step.limit for step in plan) <= 600 for plan in (script.FIRST, script.SECOND))


def test_an_unknown_step_is_refused_with_the_names_of_all(script: ModuleType) -> None:
    with pytest.raises(script.UsageError, match="--only: 'kernel' is unknown; choose from installation, correctness"):
        script.main(["--only", "kernel", "--out", "never.jsonl"])


STEP = """
import sys
from step import Step

def first(step): step.emit("first", found=1)
def second(step): raise ValueError("no")
def third(step): step.emit("third", holds={holds})
def endless(step):
    while True: pass

sys.exit(Step("A step.").run({parts}))
"""


@pytest.fixture
def steps(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "step.py").write_text((script.STEPS / "step.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(script, "STEPS", tmp_path)
    monkeypatch.setattr(script, "need", lambda *_: None)  # CuPy
    monkeypatch.setattr(script, "FIRST", [script.Planned("one", 3), script.Planned("two", 30)])
    (tmp_path / "two.py").write_text(STEP.format(parts="first", holds=True), encoding="utf-8")
    return tmp_path


def results(script: ModuleType, steps: Path, source: str) -> tuple[int, list[dict[str, Any]]]:
    (steps / "one.py").write_text(source, encoding="utf-8")
    out = steps / "out.jsonl"
    return script.main(["--out", str(out)]), lines(out)


@pytest.mark.skipif(sys.platform == "win32", reason="a step's process is killed by a POSIX signal")
def test_a_step_at_its_limit_is_stopped_what_it_found_is_kept_and_the_next_one_runs(
    script: ModuleType, steps: Path
) -> None:
    code, found = results(script, steps, STEP.format(parts="first, endless", holds=True))
    assert code == 1
    assert [line.get("what", "end") for line in found] == ["first", "end", "first", "end"]
    assert [line["late"] for line in found if "late" in line] == [True, False]


def test_a_part_that_fails_is_reported_and_the_next_part_runs(script: ModuleType, steps: Path) -> None:
    code, found = results(script, steps, STEP.format(parts="first, second, third", holds=True))
    assert code == 1
    assert found[1] == {"step": "one", "what": "second", "error": "ValueError: no"}
    assert found[2] == {"step": "one", "what": "third", "holds": True}


def test_a_result_that_does_not_hold_fails_the_check(script: ModuleType, steps: Path) -> None:
    code, _ = results(script, steps, STEP.format(parts="third", holds=False))
    assert code == 1
    assert results(script, steps, STEP.format(parts="third", holds=True))[0] == 0
