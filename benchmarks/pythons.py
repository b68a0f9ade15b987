"""The train step on several versions of Python, each with the package installed, compared with this one.

    python benchmarks/pythons.py PYTHON ... [--rounds N]

PYTHON is the path of an interpreter.  Goes to results/pythons.json.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from shutil import which
from subprocess import run as run_program
from typing import Any

from harness import Contender, new_parser, parsed, report, run, take_turns, weights_of, write
from scaling import MIDDLE
from setups import LARGE, QUICK, SMALL, Setup
from train_step import ready

from nanograd_gpt.errors import InputError, RunError

ASK = (
    "import platform, sysconfig, numpy, nanograd_gpt; "
    "print(platform.python_version() + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')), numpy.__version__)"
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=9)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="an interpreter with the package installed")
    options = parsed(parser, argv)
    if not options.pythons:
        raise InputError("PYTHON: none is given; give the paths of interpreters with the package installed")
    versions: dict[str, dict[str, str]] = {}
    for python in [sys.executable, *options.pythons]:
        version, facts = described(python)
        if version in versions:
            raise InputError(f"PYTHON: {python} and {versions[version]['python']} are both {version}; give another one")
        versions[version] = facts
    setups = {"small": (SMALL, 5), "base": (MIDDLE, 3), "124M": (QUICK if options.quick else LARGE, 1)}
    steps = {}
    for name, (setup, n_steps) in setups.items():
        print(name)
        steps[name] = {
            "setup": setup.facts(),
            "samples": compared(setup, versions, options.rounds, n_steps, options.threads),
        }
    numpys = {label: facts["numpy"] for label, facts in versions.items()}
    write(options, "pythons.json", {"steps": steps, "rounds": options.rounds, "numpy": numpys})
    return 0


def described(python: str) -> tuple[str, dict[str, str]]:
    """An interpreter's version, path and NumPy version.  Raises InputError or RunError if it has none."""
    path = which(python)
    if path is None:
        raise InputError(f"PYTHON: {python}: no such program; give the path of an interpreter")
    done = run_program([path, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RunError(f"{python}: {last[0]}; install the package there: {python} -m pip install -e .")
    version, numpy = done.stdout.split()
    return version, {"python": path, "numpy": numpy}


def compared(
    setup: Setup, versions: Mapping[str, Mapping[str, str]], rounds: int, n_steps: int, threads: int
) -> dict[str, Any]:
    """Samples of a train step by each version, this one's first."""
    facts: dict[str, Any] = {"failures": {}}
    with weights_of(setup) as weights, started(versions, threads) as running:
        ready(running, setup, weights, facts)
        for failure in facts["failures"].values():
            raise RunError(failure)
        samples = take_turns(running, rounds, "steps", n=n_steps)
    report(samples)
    return samples


@contextmanager
def started(versions: Mapping[str, Mapping[str, str]], threads: int) -> Iterator[dict[str, Contender]]:
    """A process of ours on each Python, by its version; ended with the block."""
    with ExitStack() as ends:
        running = {}
        for version, facts in versions.items():
            running[version] = ends.enter_context(closing(Contender("ours", threads, facts["python"])))
            running[version].name = f"Python {version}"
        yield running


if __name__ == "__main__":
    sys.exit(run(main))
