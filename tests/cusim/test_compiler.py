"""A text is compiled once, by whichever process comes first; without a compiler one line says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cusim import compiler
from cusim.checks import needs_compiler
from cusim.errors import CompilerError
from cusim.simulator import RawModule

CODE = 'extern "C" __global__ void f(int* x) { x[threadIdx.x] = threadIdx.x; }'
PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np
from cusim.simulator import RawModule
x = np.zeros(4, np.int32)
RawModule(code={CODE!r}).get_function("f")((1,), (4,), (x,))
print(x.tolist())
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the simulator's own part, whose compilation takes the most time."""
    base = tmp_path_factory.mktemp("cache")
    if compiler.missing_compiler():
        return base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base))
        RawModule(code=CODE).library()
    for path in base.rglob("*.so"):
        path.unlink()
    return base


@pytest.fixture
def cache(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(runtime, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nanograd_gpt" / "cusim"


@needs_compiler
def test_several_processes_compile_the_same_text_at_once(cache: Path) -> None:
    pipe = subprocess.PIPE
    runs = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    assert [run.communicate() for run in runs] == [("[0, 1, 2, 3]\n", "")] * 3
    files = sorted(path.suffix for path in cache.iterdir())
    assert files == [".o", ".o", ".so"]  # the runtime's two, the kernel, and nothing that was begun


@needs_compiler
def test_a_text_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RawModule(code=CODE).get_function("f")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("compiled again"))
    RawModule(code=CODE).get_function("f")


@needs_compiler
def test_another_option_is_another_text(cache: Path) -> None:
    for option in ("-DA=1", "-DA=2", "-DA=1"):
        RawModule(code=CODE, options=(option,)).library()
    assert len([*cache.glob("*.so")]) == 2


@needs_compiler
def test_a_text_that_does_not_compile_leaves_nothing_behind(cache: Path) -> None:
    with pytest.raises(CompilerError, match="error"):
        RawModule(code=CODE.replace("int*", "nothing*")).library()
    assert [path.suffix for path in cache.iterdir()] == [".o", ".o"]


def test_without_a_compiler_one_line_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    line = "no C++ compiler 'no-such-compiler': install g++, or name one by CXX"
    assert compiler.missing_compiler() == compiler.missing_thread_sanitizer() == line
    with pytest.raises(CompilerError) as caught:
        RawModule(code=CODE).get_function("f")
    assert str(caught.value) == line
    assert not [*cache.glob("*.so")]


def test_a_cache_of_another_users_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(CompilerError, match=r"belongs to another user: set XDG_CACHE_HOME"):
        compiler.cache_folder()
