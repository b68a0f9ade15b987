"""Train in 1, 2, 3 and 4 ranks in every combination of settings, and compare each training with that of one process.

    python tests/parallel/run.py [MOST]

Numbers of both types, one and two batches an update, the head tied and not, both random streams, the optimizer whole
and in parts: 32 trainings of 50 updates for each number of ranks up to MOST [4], by the mpiexec beside this Python.
Ends with exit code 1 if a training differs by more than rounding, or if ranks differ in a bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

# isort: split
from count_argument import count_arguments
from parallel.mpi import run_program, why_no_mpi
from parallel.trainings import TOLERANCE, alone, cases, difference

from nanograd_gpt import set_threads

LIMIT = 900  # seconds for one number of ranks


def main(most: int) -> int:
    if reason := why_no_mpi():
        print(f"error: {reason}; pip install -e '.[mpi-test]'", file=sys.stderr)
        return 1
    set_threads(1)
    wrong = 0
    for size in range(1, most + 1):
        chosen = [*cases()]
        found = run_program(size, "train", chosen, LIMIT)
        worst = dict.fromkeys(TOLERANCE, 0.0)
        for case, one in zip(chosen, found, strict=True):
            differs = difference(alone(case), one)
            worst[case["dtype"]] = max(worst[case["dtype"]], differs)
            wrong += differs > TOLERANCE[case["dtype"]] or not one["same"]
        print(
            f"{size} ranks, {len(found)} trainings: losses, norms and evaluations differ from one process's by at most "
            + ", ".join(f"{differs:.1e} ({dtype})" for dtype, differs in worst.items())
            + (", all ranks have the same bits" if all(one["same"] for one in found) else ""),
            flush=True,
        )
    print(f"{wrong} went wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*count_arguments(__doc__, MOST=4)))
