"""A command that ends while the package is imported says one line; a program that imports it gets a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project_files import ROOT

BROKEN = {  # a numpy that ends its import, and the line
    # the handler is set anew, since a process that was started in the background ignores SIGINT
    "import os, signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)": "error: interrupted",
    "raise KeyboardInterrupt": "error: interrupted",
    "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ImportError('twenty lines\\n of advice')": (
        "error: a library could not be loaded (division by zero); reinstall it, or free memory"
    ),
    "int('nonsense')": (
        "error: a library could not be loaded (invalid literal for int() with base 10: 'nonsense'); reinstall it, or "
        "free memory"
    ),
    "raise MemoryError": "error: a library could not be loaded (MemoryError); reinstall it, or free memory",
    # what OpenBLAS does without threads
    "import threading\ndef no(*_, **__): raise RuntimeError\n"
    "threading._start_new_thread = threading._start_joinable_thread = no\nraise KeyboardInterrupt": (
        "error: the system starts no more threads; raise its limit (ulimit -u), or set OPENBLAS_NUM_THREADS=1"
    ),
}


def ended(tmp_path: Path, numpy: str, *command: str) -> tuple[int, str]:
    (tmp_path / "numpy.py").write_text(numpy, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, *command]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("numpy", BROKEN, ids=range(len(BROKEN)))
def test_the_installed_command_that_cannot_be_imported_says_one_line(tmp_path: Path, numpy: str) -> None:
    script = tmp_path / "nanograd-gpt"
    script.write_text("import sys\nfrom nanograd_gpt.cli import main\nsys.exit(main())\n", encoding="utf-8")
    code, said = ended(tmp_path, numpy, str(script))
    assert said == f"{BROKEN[numpy]}\n"
    assert code == (-2 if "KeyboardInterrupt" in numpy or "SIGINT" in numpy else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_while_the_module_is_imported_as_a_command_says_one_line(tmp_path: Path) -> None:
    assert ended(tmp_path, "raise KeyboardInterrupt", "-m", "nanograd_gpt", "info") == (-2, "error: interrupted\n")


def test_an_error_of_the_packages_own_keeps_its_traceback(tmp_path: Path) -> None:
    """Here, that numpy has none of its names."""
    code, said = ended(tmp_path, "float32 = 1\ndef __getattr__(name): return float32", "-m", "nanograd_gpt")
    assert code == 1
    assert "Traceback" in said


def test_a_program_that_imports_the_package_gets_a_traceback(tmp_path: Path) -> None:
    assert "Traceback" in ended(tmp_path, "raise KeyboardInterrupt", "-c", "import nanograd_gpt")[1]
