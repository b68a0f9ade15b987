"""Figures are identical in any environment of matplotlib, since they do not use a backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from cli.commands import TEXT, finished, process, train
from strict_process import run_code

DRAW = """
import sys
from pathlib import Path
from nanograd_gpt.viz.figure_files import save_figure
from nanograd_gpt.viz.plots import plot_losses, plot_perplexity
out = Path(sys.argv[1])
save_figure(plot_losses([0, 1, 2], [0, 10, 20], [3, 2, 1], [3, 2.5, 2]), out / "loss")
save_figure(plot_perplexity([0, 10, 20], [3, 2, 1], [3, 2.5, 2]), out / "perplexity")
"""
BACKENDS = ["module://matplotlib_inline.backend_inline", "module://nowhere.at_all", "TkAgg", " "]
SCRIPTS = Path(__file__).parents[2] / "scripts"


def output(command: list[str], cwd: Path, **variables: str) -> str:
    """The output of a process with these variables and no display."""
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in (".png", ".svg")}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    out = tmp_path_factory.mktemp("usual")
    assert output(run_code(DRAW, out), cwd=out) == ""
    assert len(files(out)) == 4
    return files(out)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_are_the_same_with_any_backend_in_the_environment(
    backend: str, usual: Mapping[str, bytes], tmp_path: Path
) -> None:
    assert output(run_code(DRAW, tmp_path), cwd=tmp_path, MPLBACKEND=backend) == ""
    assert files(tmp_path) == usual


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["text.usetex: True", "backend: nonsense", "font.family: none such", "figure.dpi: many", "no such: key"]
)
def test_figures_are_the_same_with_any_matplotlibrc(line: str, usual: Mapping[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(line + "\n", encoding="utf-8")
    output([sys.executable, "-c", DRAW, str(tmp_path)], cwd=tmp_path)  # matplotlib warns of a bad matplotlibrc
    assert files(tmp_path) == usual


def test_figures_are_the_same_where_matplotlib_may_keep_nothing(usual: Mapping[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for variables in ({"MPLCONFIGDIR": str(tmp_path / "file" / "below")}, {"HOME": "/nonexistent", "MPLCONFIGDIR": ""}):
        output([sys.executable, "-c", DRAW, str(tmp_path)], cwd=tmp_path, **variables)
        assert files(tmp_path) == usual


def test_the_variable_is_left_to_pyplot(tmp_path: Path) -> None:
    code = "import os, nanograd_gpt.viz.plots, matplotlib; print(os.environ['MPLBACKEND'], matplotlib.get_backend())"
    assert output([sys.executable, "-c", code], cwd=tmp_path, MPLBACKEND="svg").split() == ["svg", "svg"]
    code = "import nanograd_gpt.viz.plots, matplotlib.pyplot as plt; plt.figure(); print(plt.get_backend())"
    assert output([sys.executable, "-c", code], cwd=tmp_path, MPLBACKEND="nonsense").strip() == "agg"


@pytest.mark.slow
def test_a_training_draws_its_figures_with_a_foreign_backend(tmp_path: Path) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text(TEXT, encoding="utf-8")
    result = finished(process(*train(run, text, "--max-steps", 4), env={"MPLBACKEND": BACKENDS[0]}))
    assert (result.code, result.err) == (0, "")
    assert len(files(run / "figures")) == 8


def test_the_benchmarks_figure_can_be_drawn_with_a_foreign_backend(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS.with_name('benchmarks'))!r}); import speed_figure"
    assert output(run_code(code), cwd=tmp_path, MPLBACKEND="nonsense") == ""
