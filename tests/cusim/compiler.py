"""g++ for the simulator: each text is compiled once and kept, and several processes may do so at once.

CXX names another compiler.  The results lie in XDG_CACHE_HOME, or in the system's temporary folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .errors import CompilerError

HERE = Path(__file__).parent
RUNTIME = HERE / "runtime"
# No contraction to fused products: the bits do not depend on the compiler.  No assumption on types: kernels read 16
# bytes at once of arrays of any type.
FLAGS = [
    "-std=gnu++17",
    "-O2",
    "-g1",
    "-w",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
]
TSAN = ["-fsanitize=thread", "-DCUSIM_TSAN"]


def command() -> list[str]:
    return shlex.split(os.environ.get("CXX", "g++"))


def missing_compiler() -> str | None:
    """One line that says that there is no compiler; None where there is one."""
    name = command()[0]
    if shutil.which(name):
        return None
    return f"no C++ compiler {name!r}: install g++, or name one by CXX"


def missing_thread_sanitizer() -> str | None:
    """One line that says what ThreadSanitizer lacks here; None where it runs."""
    if missing_compiler():
        return missing_compiler()
    if not shutil.which("setarch"):
        return "no setarch, which ThreadSanitizer needs: it is in util-linux"
    try:
        program = build("int main() {}", [*TSAN, "-pie"], suffix="")
    except CompilerError:
        return f"{command()[0]} has no ThreadSanitizer: install libtsan"
    done = subprocess.run(without_random_addresses(program), capture_output=True, check=False)
    return None if done.returncode == 0 else "ThreadSanitizer does not start here"


def without_random_addresses(*arguments: object) -> list[str]:
    """A command for a program with ThreadSanitizer, which finds its memory taken where addresses are random."""
    return ["setarch", "-R", *map(str, arguments)]


def shared_library(text: str) -> Path:
    """A library of a translated .cu text and the simulator's runtime."""
    return build(text, ["-shared"], objects=[_runtime("block.cpp"), _runtime("grid.cpp")])


def counting_library(text: str) -> Path:
    """A library as `shared_library`'s that counts what its kernels load, store and multiply."""
    kernels = build(text, ["-c", "-fsanitize=thread", "-DCUSIM_COUNT"], suffix=".o")
    runtime = [_runtime(name, "-DCUSIM_COUNT") for name in ("block.cpp", "grid.cpp", "counting.cpp")]
    return build("", ["-shared"], objects=[kernels, *runtime])  # without libtsan: counting.cpp is in its place


def watched_program(text: str) -> Path:
    """A program under ThreadSanitizer that runs a launch of a translated .cu text from a file."""
    objects = [_runtime(name, "-DCUSIM_TSAN") for name in ("block.cpp", "grid.cpp", "replay.cpp")]
    return build(text, [*TSAN, "-pie"], objects=objects, suffix="")


def _runtime(name: str, *flags: str) -> Path:
    # ThreadSanitizer watches calls of memcpy and memset: those that are written there, and no others
    calls = ("-fno-builtin-memcpy", "-fno-builtin-memset", "-fno-tree-loop-distribute-patterns")
    flags = ("-c", f"-I{RUNTIME}", *calls, *flags)
    return build((RUNTIME / name).read_text(encoding="utf-8"), flags, suffix=".o")


def build(text: str, flags: Sequence[str], *, objects: Sequence[Path] = (), suffix: str = ".so") -> Path:
    """The compiled text, from the cache if it is there.  Raises CompilerError with the compiler's first errors."""
    if missing := missing_compiler():
        raise CompilerError(missing)
    parts = [text, *FLAGS, *flags, *command(), *(path.name for path in objects), _headers()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    result = cache_folder() / f"{key}{suffix}"
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=result.parent) as folder:
            source, target = Path(folder, "kernel.cpp"), Path(folder, "result")
            source.write_text(text, encoding="utf-8")
            arguments: list[Any] = [*command(), *FLAGS, *flags, f"-I{HERE / 'include'}", "-o", target, source, *objects]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CompilerError(_first_errors(done.stderr))
            os.replace(target, result)  # whole, or not there: another process may look
    return result


@cache
def _headers() -> str:
    paths = sorted(path for folder in ("include", "runtime") for path in (HERE / folder).iterdir())
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def cache_folder() -> Path:
    """The folder of compiled texts, made where it is missing."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(base, "nanograd_gpt") if base else Path(tempfile.gettempdir(), f"nanograd_gpt-{os.getuid()}")
    path = folder / "cusim"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_uid != os.getuid():
        raise CompilerError(f"{path} belongs to another user: set XDG_CACHE_HOME to a folder of your own")
    return path


def _first_errors(output: str) -> str:
    lines = [line for line in output.splitlines() if "error" in line]
    return "\n".join(lines[:5]) or output[:2000]
