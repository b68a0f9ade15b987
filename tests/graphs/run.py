"""Draw random graphs, and check their gradients by complex step, against PyTorch where installed, and in every way.

    PYTHONPATH=.:tests python -m graphs.run [N] [--seed S]

N random programs [2000] of up to 12 steps over all operations: scalars, empty arrays, broadcasting, shared values,
views, dead branches, detach and no_grad, several roots.  Ends with one line; of a fault it prints the smallest program
that has it.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from time import monotonic

from hypothesis import HealthCheck, Phase, given, seed, settings

from .checks import Tally, check
from .program import Program
from .strategy import programs


def explored(n: int, start: int, shrink: bool = True) -> Tally:
    """Check n random programs; raises the error of the smallest one found wrong."""
    if find_spec("torch") is not None:
        from .in_pytorch import values_and_gradients as pytorch
    else:
        pytorch = None
    tally = Tally()

    @seed(start)
    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
    )
    @given(programs())
    def each(program: Program) -> None:
        check(program, tally, pytorch)

    each()
    return tally


def program() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("n", nargs="?", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = monotonic()
    tally = explored(options.n, options.seed)
    print(f"{tally}; 0 went wrong, in {monotonic() - started:.0f} seconds")
    return 0


if __name__ == "__main__":
    sys.exit(program())
