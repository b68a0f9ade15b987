"""Scripts and benchmarks without what they need end in one line `error: ...`, exit code 1 or 2, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _one_line
import pytest
from project_files import ROOT

OWN = ["numpy", "tiktoken"]  # what nanograd_gpt itself imports
NEEDS = {
    "scripts/01_backpropagation.py": OWN,
    "scripts/02_gradient_microscope.py": [*OWN, "matplotlib"],
    "scripts/03_break_the_gradient.py": [*OWN, "matplotlib"],
    "scripts/04_tokens_and_windows.py": [*OWN, "matplotlib"],
    "scripts/05_loss_from_scratch.py": [*OWN, "matplotlib"],
    "scripts/06_attention_anatomy.py": [*OWN, "matplotlib"],
    "scripts/10_learning_to_write.py": [*OWN, "matplotlib"],
    "scripts/14_is_it_gpt2.py": [*OWN, "matplotlib"],
    "scripts/15_data_parallel.py": [*OWN, "matplotlib"],
    "scripts/the_books_numbers.py": OWN,
    "scripts/12_where_the_time_goes.py": [*OWN, "matplotlib"],
    "scripts/07_layernorm_and_gelu.py": [*OWN, "matplotlib"],
    "scripts/08_adamw_by_hand.py": [*OWN, "matplotlib"],
    "scripts/09_signal_propagation.py": [*OWN, "matplotlib"],
    "scripts/11_choosing_a_token.py": [*OWN, "matplotlib"],
    "scripts/13_where_the_memory_goes.py": [*OWN, "matplotlib"],
    "scripts/an_attention_kernel.py": [*OWN, "matplotlib"],
    "scripts/learning_or_memorising.py": [*OWN, "matplotlib"],
    "benchmarks/blas_kernels.py": OWN,
    "benchmarks/book_in_pytorch.py": [*OWN, "torch"],
    "benchmarks/data_parallel.py": OWN,
    "benchmarks/default_run.py": OWN,
    "benchmarks/estimates.py": OWN,
    "benchmarks/generation.py": [*OWN, "torch", "transformers"],
    "benchmarks/layers.py": [*OWN, "torch"],
    "benchmarks/memory.py": [*OWN, "torch"],
    "benchmarks/pythons.py": OWN,
    "benchmarks/readme.py": [*OWN, "matplotlib"],
    "benchmarks/saving.py": OWN,
    "benchmarks/scaling.py": [*OWN, "torch"],
    "benchmarks/startup.py": [*OWN, "torch"],
    "benchmarks/tour.py": OWN,
    "benchmarks/tale_scores.py": OWN,
    "benchmarks/train_step.py": [*OWN, "torch"],
    "benchmarks/watching.py": OWN,
    "benchmarks/where_the_time_goes.py": OWN,
}
MODULES = {
    "data_parallel_figure",
    "data_parallel_model",
    "data_parallel_parts",
    "data_parallel_rank",
    "gpu_parts",
    "harness",
    "hosts",
    "setups",
    "speed_figure",
    "speed_parts",
    "tour_parts",
    "variants",
}  # of benchmarks/, which are imported, or started by another, only
ELSEWHERE = {"ch05", "gpu_check", "make_ch05"}  # of scripts/, which have a test file of their own


def ran(script: str, *arguments: str, hidden: str = "", folder: Path, **variables: str) -> tuple[int, str]:
    """Run a script in a folder, with a library hidden from it and from the processes it starts."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{hidden!r}] = None\n" if hidden else "")
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )
    return done.returncode, done.stderr


def test_every_script_and_benchmark_is_here() -> None:
    files = [*(ROOT / "scripts").glob("[!_]*.py"), *(ROOT / "benchmarks").glob("*.py")]
    others = MODULES | ELSEWHERE
    assert sorted(NEEDS) == sorted(path.relative_to(ROOT).as_posix() for path in files if path.stem not in others)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "library"), [(script, library) for script, libraries in NEEDS.items() for library in libraries]
)
def test_a_missing_library_is_one_line(script: str, library: str, tmp_path: Path) -> None:
    for earlier in NEEDS[script][: NEEDS[script].index(library)]:
        pytest.importorskip(earlier)  # its absence would be named first
    code, errors = ran(script, hidden=library, folder=tmp_path)
    name = Path(script).name
    assert errors.startswith(f"error: {name} needs {library}, which is not installed; pip install ")
    assert errors.count("\n") == 1
    assert code == 2
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".json", ".svg", ".png")] == []


@pytest.mark.slow
@pytest.mark.parametrize("script", NEEDS)
def test_an_option_that_does_not_exist_is_refused_before_any_work(script: str, tmp_path: Path) -> None:
    for library in NEEDS[script]:
        pytest.importorskip(library)  # its absence would be named first
    code, errors = ran(script, "--bogus", folder=tmp_path)
    assert code == 2
    assert errors == f"error: unrecognized arguments: --bogus; {Path(script).name} --help lists all options\n"


# --- everything else that can be missing

WITH_OUT = [script for script in NEEDS if not script.endswith(("default_run.py", "readme.py", "tour.py"))]


@pytest.mark.slow
@pytest.mark.parametrize("script", WITH_OUT)
def test_an_out_that_cannot_be_written_to_is_one_line_before_any_work(script: str, tmp_path: Path) -> None:
    if script.startswith("benchmarks/"):
        for library in NEEDS[script]:
            pytest.importorskip(library)
    (tmp_path / "file").write_text("a file and not a directory")
    within = f"{tmp_path / 'file' / 'out'}"
    is_file = "the_books_numbers" in script or "book_in" in script
    code, errors = ran(script, "--out", f"{within}/x.json" if is_file else within, folder=tmp_path)
    message = f"error: --out: cannot write to {within} (Not a directory); choose another directory\n"
    assert (code, errors) == (2, message)


def test_the_books_numbers_refuse_a_directory_before_the_training(tmp_path: Path) -> None:
    code, errors = ran("scripts/the_books_numbers.py", "--out", tmp_path, folder=tmp_path)
    assert (code, errors) == (2, f"error: --out: {tmp_path} is a directory; give the name of a file\n")


def test_a_script_that_is_taken_out_of_its_clone_says_what_it_lacks(tmp_path: Path) -> None:
    code, errors = ran("scripts/an_attention_kernel.py", hidden="cusim", folder=tmp_path)
    message = "error: an_attention_kernel.py needs tests/cusim; run it in a clone of nanograd_gpt\n"
    assert (code, errors) == (2, message)


def test_a_missing_text_and_no_network_are_one_line(tmp_path: Path) -> None:
    script = "scripts/the_books_numbers.py"
    code, errors = ran(script, "--quick", "--data", "nowhere.txt", folder=tmp_path)
    assert code == 2
    assert errors.startswith("error: data: nowhere.txt does not exist; ")
    assert errors.count("\n") == 1
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
    code, errors = ran(script, "--quick", folder=tmp_path, XDG_CACHE_HOME=str(tmp_path), **offline)
    assert code == 1
    assert errors.splitlines()[-1].startswith("error: data: ")
    assert "Traceback" not in errors


def test_an_unknown_matplotlib_backend_is_not_needed(tmp_path: Path) -> None:
    code, errors = ran("scripts/05_loss_from_scratch.py", "--out", "x", folder=tmp_path, MPLBACKEND="module://nowhere")
    assert (code, errors) == (0, "")


def test_a_number_of_rounds_that_measures_nothing_is_an_error(tmp_path: Path) -> None:
    code, errors = ran("benchmarks/where_the_time_goes.py", "--rounds", "0", folder=tmp_path)
    assert code == 2
    assert "argument --rounds: got '0'; a whole number >= 1 is needed" in errors


def test_errors_of_the_program_keep_their_traceback() -> None:
    def main() -> int:
        raise IndexError("a bug")

    with pytest.raises(IndexError):
        _one_line.run(main)


KINDS = pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MemoryError("1 GiB"), 1, "out of memory (1 GiB); use --quick, or a machine with more"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), 1, "No such file or directory: a.json"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (_one_line.UsageError("two\n lines"), 2, "two lines"),
    ],
    ids=["memory", "file", "interrupted", "usage"],
)


@KINDS
def test_each_kind_of_error_has_its_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    assert _one_line.run(main) == code
    assert capsys.readouterr().err == f"error: {line}\n"


def test_an_error_that_ctrl_c_causes_is_ctrl_cs(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nimport _one_line\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
        "raise ImportError('as an extension module says')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, str(tmp_path / "cells.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@KINDS
def test_a_script_of_cells_without_a_main_has_the_same_exit_codes(
    error: BaseException, code: int, line: str, tmp_path: Path
) -> None:
    of_its_own = "from _one_line import UsageError\n" if isinstance(error, _one_line.UsageError) else ""
    (tmp_path / "cells.py").write_text(f"import _one_line\n{of_its_own}\n# %%\nraise {error!r}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    command = [sys.executable, str(tmp_path / "cells.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    shown = "the output could not be written (No such file or directory)" if isinstance(error, OSError) else line
    assert (done.returncode, done.stderr) == (code, f"error: {shown}\n")  # repr of an OSError leaves its file out
