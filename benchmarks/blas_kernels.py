"""The train step with other kernels of OpenBLAS than those that it picks for this processor.

    python benchmarks/blas_kernels.py [NAME ...] [--rounds N]

NAME is a value of OPENBLAS_CORETYPE, such as Haswell, whose kernels use AVX2 [Haswell].  Goes to
results/blas_kernels.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from subprocess import run as run_program

from harness import new_parser, parsed, run, write
from variants import steps

from nanograd_gpt.errors import InputError, RunError

VARIABLE = "OPENBLAS_CORETYPE"
NAMES = ["Haswell", "Sandybridge", "Nehalem"]  # which any processor of the last ten years has
ASK = "from nanograd_gpt.environment import environment; print(*environment()['blas_kernels'])"


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=9)
    parser.add_argument("names", nargs="*", metavar="NAME", default=["Haswell"], help="a value of " + VARIABLE)
    options = parsed(parser, argv)
    chosen = kernels({})
    variants = {f"{chosen}, by default": {"variables": {}}}
    for name in options.names:
        variables = {VARIABLE: name}
        if (used := kernels(variables)) == chosen:
            others = ", ".join(other for other in NAMES if other != chosen)
            raise InputError(
                f"NAME: with {VARIABLE}={name}, NumPy's BLAS uses {used} as without it; give another one, such as "
                f"{others}"
            )
        variants[f"{VARIABLE}={name}"] = {"variables": variables}
    measured = steps(variants, options.rounds, options.threads, options.quick)
    write(options, "blas_kernels.json", {"steps": measured, "rounds": options.rounds})
    return 0


def kernels(variables: dict[str, str]) -> str:
    """The kernels of BLAS in a process with these environment variables.  Raises RunError if it does not tell them."""
    environment = {**os.environ, **variables}
    done = run_program([sys.executable, "-c", ASK], capture_output=True, text=True, check=False, env=environment)
    name = done.stdout.strip()
    if not name:
        last = done.stderr.strip().splitlines()[-1:] or ["NumPy's BLAS does not tell its kernels; OpenBLAS does"]
        raise RunError(last[0])
    return name


if __name__ == "__main__":
    sys.exit(run(main))
