"""nanograd-gpt info, plot and gradcheck."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import complaint, fails, nanograd, works

import nanograd_gpt
from nanograd_gpt.gpt.config import PRESETS, GPTConfig
from nanograd_gpt.gradcheck import cases as all_cases
from nanograd_gpt.ops import elementwise
from nanograd_gpt.training.config import book
from nanograd_gpt.training.metrics import MetricsLog

# --- info


def parameters_in(printed: str) -> int:
    found = re.search(r"^parameters +([\d,]+), ", printed, re.MULTILINE)
    assert found
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--preset", "gpt2-124m"], 162_419_712),
        (["--preset", "gpt2-124m", "--context-length", "1024"], 163_009_536),
        (["--preset", "gpt2"], 162_419_712),
        (["--preset", "gpt2-xl"], PRESETS["gpt2-1558m"].n_parameters),
        (["--book"], 162_419_712),
        (["--preset", "gpt2-1558m"], PRESETS["gpt2-1558m"].n_parameters),
        ([], PRESETS["tales"].n_parameters),
        (["--n-layers", "1", "--qkv-bias"], GPTConfig(330, 66, 64, 4, 1, 0.0, True).n_parameters),
    ],
    ids=str,
)
def test_info_tells_a_configurations_parameters_without_building_it(
    options: list[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanograd_gpt.gpt.model.GPTModel.__init__", None)
    printed = works("info", *options)
    assert parameters_in(printed) == expected
    for name in (
        "vocab_size",
        "context_length",
        "emb_dim",
        "n_heads",
        "drop_rate",
        "training memory",
        "python",
        "numpy",
        "device",
    ):
        assert re.search(rf"^{name} +\S", printed, re.MULTILINE)


def test_info_tells_the_books_sizes() -> None:
    printed = works("info", "--preset", "gpt2-124m")
    assert "parameters       162,419,712, 619.58 MiB in float32" in printed.splitlines()
    for name, value in book().model.to_dict().items():
        assert f"{name:<16} {value}" in printed.splitlines()


@pytest.mark.parametrize("of", ["trained", "checkpoint", "model_file"])
def test_info_tells_what_a_run_a_checkpoint_and_a_model_file_hold(
    of: str, checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    printed = works("info", request.getfixturevalue(of))
    assert parameters_in(printed) == 13_344
    assert "vocab_size       307" in printed.splitlines()
    told = [f"checkpoint       {checkpoint}", "global_step      9", "tokens_seen      320"]
    assert [line in printed.splitlines() for line in told] == [of != "model_file"] * 3


@pytest.mark.parametrize("what", ["missing", "empty directory", "text", "metrics"])
def test_info_refuses_what_is_none_of_these(what: str, tmp_path: Path, data: Path, trained: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = {
        "missing": tmp_path / "missing",
        "empty directory": tmp_path / "empty",
        "text": data,
        "metrics": trained / "metrics.jsonl",
    }[what]
    assert str(path) in fails("info", path)


# --- plot


def test_plot_draws_figures_and_report_anew(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    written = [*(run / "figures").iterdir(), run / "report.html"]
    before = {path: path.read_bytes() for path in written}
    shutil.rmtree(run / "figures")
    (run / "report.html").unlink()
    printed = works("plot", run)
    assert sorted(printed.splitlines()) == sorted(map(str, written))
    for path in (run / "figures").glob("*"):
        assert path.read_bytes() == before[path]


def test_plot_out_leaves_the_run_as_it_was(trained: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    printed = works("plot", trained, "--out", tmp_path / "a" / "b").splitlines()
    assert {Path(line).relative_to(tmp_path / "a" / "b") for line in printed} == {
        path.relative_to(trained) for path in [*(trained / "figures").iterdir(), trained / "report.html"]
    }
    assert all(Path(line).is_file() for line in printed)
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_plot_works_for_a_run_that_has_only_begun(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("metrics.jsonl", "figures", "checkpoints"))
    log = MetricsLog(run / "metrics.jsonl")
    log.write("start", time="2026-01-01T00:00:00+00:00", resumed_from=-1, n_parameters=5)
    log.close()
    assert works("plot", run).splitlines() == [str(run / "report.html")]


def test_plot_shows_a_run_whose_loss_became_nan(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    log = MetricsLog(run / "metrics.jsonl")
    log.write("step", step=10, epoch=3, tokens=352, loss=float("nan"), lr=0.1, grad_norm=float("nan"), seconds=1.0)
    log.close()
    assert len(works("plot", run).splitlines()) == 9


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_plot_refuses_a_directory_without_a_run(what: str, tmp_path: Path) -> None:
    path = tmp_path if what == "empty" else tmp_path / "missing"
    assert str(path) in fails("plot", path)
    assert not any(tmp_path.iterdir())


# --- gradcheck


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [case for case in all_cases.cases() if case.op in (elementwise.Exp, elementwise.Mul)]
    monkeypatch.setattr("nanograd_gpt.cli.gradcheck.cases", lambda: chosen)
    monkeypatch.setattr("nanograd_gpt.cli.gradcheck.TINY", GPTConfig(5, 3, 4, 2, 1, 0.0))


@pytest.mark.usefixtures("few_cases")
def test_gradcheck_prints_one_line_an_operation_with_its_worst_error() -> None:
    lines = works("gradcheck").splitlines()
    assert [line.split()[0] for line in lines] == ["checking", "operation", "Exp", "Mul", "GPT,", "GPT,", "checked:"]
    for line in lines[2:-1]:
        assert 0 <= float(line.split()[-1]) <= 1e-12


@pytest.mark.usefixtures("few_cases")
@pytest.mark.parametrize(
    ("names", "checked"), [(["exp"], ["Exp"]), (["Mul", "EXP"], ["Exp", "Mul"]), (["gpt"], ["GPT,", "GPT,"])]
)
def test_gradcheck_checks_the_operations_that_are_named(names: list[str], checked: list[str]) -> None:
    lines = works("gradcheck", *names).splitlines()
    assert [line.split()[0] for line in lines] == ["checking", "operation", *checked, "checked:"]


@pytest.mark.usefixtures("few_cases")
def test_gradcheck_lists_the_names_that_it_knows_and_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.gradcheck._line", lambda *_: pytest.fail("nothing is to be checked"))
    assert works("gradcheck", "--list") == "Exp\nMul\nGPT\n"


@pytest.mark.usefixtures("few_cases")
def test_a_broken_rule_is_reported_once_without_advice_on_other_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise.Exp, "backward", lambda self, dy: (dy * self.saved * 1.01,))
    result = nanograd("gradcheck", "Exp")
    lines = result.out.splitlines()[2:]
    assert lines[0].startswith("Exp                  FAILED")
    assert "analytic" not in result.out
    assert re.fullmatch(r" +and \d+ more of its \d+ cases", lines[1])
    assert len(lines) == 2


@pytest.mark.usefixtures("few_cases")
@pytest.mark.parametrize(
    ("name", "hint"), [("Epx", "; choose one of exp, mul, gpt"), ("mull", "; did you mean 'mul'?")]
)
def test_gradcheck_refuses_a_name_that_it_does_not_know(name: str, hint: str) -> None:
    assert fails("gradcheck", "Exp", name) == f"gradcheck: {name!r} is unknown{hint}"


def test_gradcheck_names_the_code_that_it_checks_and_finds_a_rule_broken_there(tmp_path: Path) -> None:
    """In an installed copy, edits of the clone are not what is checked: the first line tells."""
    package = tmp_path / "nanograd_gpt"
    shutil.copytree(Path(nanograd_gpt.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = package / "ops" / "elementwise.py"
    text = source.read_text(encoding="utf-8")
    rule = text.index("return", text.index("def backward", text.index("class Tanh")))
    source.write_text(f"{text[:rule]}dy = dy * 1.01\n        {text[rule:]}", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "nanograd_gpt", "gradcheck", "Tanh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.stdout.splitlines()[0] == f"checking {package}"
    assert "Tanh                 FAILED" in done.stdout
    assert done.returncode == 1


@pytest.mark.usefixtures("few_cases")
@pytest.mark.parametrize("wrong_by", [1e-9, 0.5])
def test_gradcheck_fails_for_a_broken_rule_and_names_it(monkeypatch: pytest.MonkeyPatch, wrong_by: float) -> None:
    right = elementwise.Exp.backward
    monkeypatch.setattr(elementwise.Exp, "backward", lambda self, dy: (right(self, dy)[0] * (1 + wrong_by),))
    result = nanograd("gradcheck")
    assert re.match(r"gradcheck: \d+ of the checks above failed", complaint(result, 1))
    failed = [line for line in result.out.splitlines() if "FAILED" in line]
    assert failed
    assert all(line.startswith("Exp ") for line in failed)
    assert any(re.match(r"Mul +\d+ +\d\.\de-\d+$", line) for line in result.out.splitlines())


@pytest.mark.usefixtures("few_cases")
def test_gradcheck_fails_for_a_model_whose_gradient_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanograd_gpt.ops.norm import LayerNorm

    right = LayerNorm.backward

    def backward(self: Any, dy: Any) -> Any:
        dx, *rest = right(self, dy)
        return (None if dx is None else dx * np.float64(1.001), *rest)

    monkeypatch.setattr(LayerNorm, "backward", backward)
    result = nanograd("gradcheck")
    complaint(result, 1)
    assert [line.split(",")[0] for line in result.out.splitlines() if "FAILED" in line] == ["GPT", "GPT"]
