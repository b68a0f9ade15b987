"""Code shared by the steps of scripts/gpu_check.py: --dry-run, JSON lines, and times by CUDA events.

A step prints one line of JSON per result, as it comes, so that what was found before a time limit is kept.  With
--dry-run it runs small sizes on the stand-in for CuPy, whose kernels run on the simulator: no GPU is needed.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path += map(str, (ROOT, ROOT / "tests", ROOT / "benchmarks", ROOT / "benchmarks" / "contenders"))

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
WARM_UP, ROUNDS = 3, 20


class Step:
    """One run of a step: its options, and the sizes of a dry run in place of the real ones."""

    def __init__(self, about: str) -> None:
        parser = ArgumentParser(description=about.splitlines()[0])
        parser.add_argument("--dry-run", action="store_true", help="small sizes on the CPU, to check the script")
        self.dry: bool = parser.parse_args().dry_run

    def run(self, *parts: Callable[[Step], None]) -> int:
        """Run the parts; one that fails is reported and the next runs.  Returns 1 if one failed, else 0."""
        failed = 0
        with self.device():
            for part in parts:
                try:
                    part(self)
                except (
                    Exception
                ) as error:  # a part fails with errors of any library: it is recorded, and fails the step
                    failed = 1
                    self.emit(part.__name__, error=f"{type(error).__name__}: {error}")
        return failed

    def device(self) -> AbstractContextManager[Any]:
        """The real CuPy, or in a dry run the stand-in."""
        if not self.dry:
            return nullcontext()
        from standin.cupy_standin import installed

        return installed()

    def emit(self, what: str, **facts: Any) -> None:
        print(json.dumps({"what": what, **facts}), flush=True)

    def pick(self, real: Any, dry: Any) -> Any:
        return dry if self.dry else real

    def milliseconds(self, work: Callable[[], object], rounds: int = ROUNDS) -> float:
        """The median time of work by CUDA events, after a warm-up."""
        import cupy
        import numpy as np

        times = []
        for i in range(self.pick(WARM_UP + rounds, 2)):
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            work()
            end.record()
            end.synchronize()
            if i >= self.pick(WARM_UP, 1):
                times.append(cupy.cuda.get_elapsed_time(start, end))
        return float(np.median(times))


def relative_error(got: Any, exact: Any) -> float:
    """|got - exact| / |exact|; inf if anything is not finite."""
    import numpy as np

    from nanograd_gpt.backend.select import to_host

    error = float(np.linalg.norm(to_host(got).astype(np.float64) - exact) / np.linalg.norm(exact))
    return error if np.isfinite(error) else float("inf")
