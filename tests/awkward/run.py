"""Run commands with awkward inputs and in awkward environments, each in a process of its own, and judge each end.

    python tests/awkward/run.py [N]

N inputs [500], spread over the table of inputs.py, and every environment of environments.py.  Each must work, or fail
with one line and a code that says why, within a time limit; see verdict.py.  As root, processes are started as nobody,
since root may do all that a denied user may not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1]))

from awkward.environments import ENVIRONMENTS, Environment
from awkward.inputs import filled, inputs
from awkward.verdict import wrong
from cli.commands import COURSE, SIZES, TEXT
from count_argument import count_arguments

ROOT = Path(__file__).parents[2]
LIMIT = 120  # seconds
AT_ONCE = 2 * (os.cpu_count() or 1)  # processes
NOBODY = "65534"
SETPRIV, BASH = shutil.which("setpriv"), shutil.which("bash")
AS_NOBODY = [str(SETPRIV), "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
AS_NOBODY += [
    "--inh-caps",
    "+dac_read_search",
    "--ambient-caps",
    "+dac_read_search",
]  # to read an interpreter of root's


def may_be_lowered() -> bool:
    """Whether processes can be started as a user with fewer rights."""
    return os.name == "posix" and os.geteuid() == 0 and SETPRIV is not None


class End(NamedTuple):
    code: int
    out: str
    err: str


class Place:
    """A directory with a run and a text, and one for each process."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.numbers = directory, count(1)
        self.run, self.data, self.home = directory / "run", directory / "text.txt", directory / "home"
        self.home.mkdir()
        self.home.chmod(0o777)
        self.data.write_text(TEXT, encoding="utf-8")
        train = ["train", "--out", str(self.run), "--data", str(self.data), *SIZES, *COURSE, "--epochs", "2"]
        end = self.ended(Environment("the run that others use", tuple(train)))
        assert end.code == 0, end

    @contextmanager
    def work(self) -> Iterator[tuple[Path, dict[str, str]]]:
        """A process's own directory, and the paths for its command line."""
        work = self.directory / f"work{next(self.numbers)}"
        shutil.copytree(self.run, work / "copy") if self.run.is_dir() else work.mkdir()
        (work / "file").write_bytes(b"\x00\xff")
        (work / "empty").mkdir()
        (work / "cwd").mkdir()
        names = {"run": self.run, "data": self.data} | {name: work / name for name in ("copy", "file", "empty", "new")}
        if may_be_lowered():
            subprocess.run(["chown", "-R", NOBODY, str(work)], check=True)
        try:
            yield work / "cwd", {name: str(path) for name, path in names.items()} | {"long": str(work / ("a" * 300))}
        finally:
            subprocess.run(["chmod", "-R", "u+rwx", str(work)], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(work, ignore_errors=True)

    def ended(self, environment: Environment) -> End:
        """Start a command in an environment, and wait for its end."""
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.home),
            **environment.variables,
        }
        with self.work() as (cwd, paths):
            command = [sys.executable, *environment.python, "-m", "nanograd_gpt", *filled([*environment.argv], paths)]
            script = f'{environment.shell}\nexec "$@" {environment.streams}'
            lowered = AS_NOBODY if may_be_lowered() and self.run.is_dir() else []
            shell = [*lowered, str(BASH), "-c", script, "bash", *command]
            try:
                done = subprocess.run(
                    shell,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    cwd=cwd,
                    env={name: value for name, value in variables.items() if value is not None},
                    timeout=LIMIT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return End(124, "", "")
        return End(done.returncode, *(text.decode(errors="replace") for text in (done.stdout, done.stderr)))


def judged(place: Place, environment: Environment) -> str | None:
    """The fault of a command's end, with the command; None if it has none."""
    end = place.ended(environment)
    code = 128 - end.code if end.code < 0 else end.code
    fault = "no end" if code == 124 else wrong(code, end.out, end.err, environment.heard)
    if fault is None:
        return None
    argv = shlex.join(word if len(word) < 100 else f"{word[:100]}..." for word in environment.argv)
    found = f"{fault}: {environment.name}: {argv}: exit {code}\n{end.err[-1500:]}"
    return found.encode(errors="replace").decode()


def chosen_inputs(n: int) -> list[Environment]:
    """n inputs, spread over the table; a process cannot be given a zero byte."""
    table = [argv for argv in inputs() if "\0" not in "".join(argv)]
    n = min(n, len(table))
    return [Environment("input", tuple(table[i * len(table) // n])) for i in range(n)]


def program() -> int:
    given = chosen_inputs(*count_arguments(__doc__, N=500))
    n_wrong = 0
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(AT_ONCE) as pool:
        os.chmod(directory, 0o755)
        place = Place(Path(directory))
        for fault in pool.map(lambda environment: judged(place, environment), [*ENVIRONMENTS, *given]):
            if fault is not None:
                n_wrong += 1
                print(fault, flush=True)
    print(f"{len(given)} inputs and {len(ENVIRONMENTS)} environments; {n_wrong} went wrong")
    return bool(n_wrong)


if __name__ == "__main__":
    sys.exit(program())
