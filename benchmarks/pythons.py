"""The train step on several versions of Python or NumPy, each with the package installed, compared with this one.

    python benchmarks/pythons.py PYTHON ... [--rounds N]

PYTHON is the path of an interpreter.  Goes to results/pythons.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from shutil import which
from subprocess import run as run_program

from harness import new_parser, parsed, run, write
from variants import steps

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
    variants: dict[str, dict[str, str]] = {}
    for python in [sys.executable, *options.pythons]:
        versions, path = described(python)
        if versions in variants:
            raise InputError(
                f"PYTHON: {python} and {variants[versions]['python']} are both {versions}; give another one"
            )
        variants[versions] = {"python": path}
    measured = steps(variants, options.rounds, options.threads, options.quick)
    write(options, "pythons.json", {"steps": measured, "rounds": options.rounds})
    return 0


def described(python: str) -> tuple[str, str]:
    """An interpreter's and NumPy's versions, and its path.  Raises InputError or RunError if it has none."""
    path = which(python)
    if path is None:
        raise InputError(f"PYTHON: {python}: no such program; give the path of an interpreter")
    done = run_program([path, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RunError(f"{python}: {last[0]}; install the package there: {python} -m pip install -e .")
    version, numpy = done.stdout.split()
    return f"Python {version}, NumPy {numpy}", path


if __name__ == "__main__":
    sys.exit(run(main))
