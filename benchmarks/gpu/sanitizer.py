"""compute-sanitizer on the kernels' tests: memory errors, races, reads of what was never written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from step import PYTEST, ROOT, Step

KERNELS = [
    "attention",
    "attention_bf16",
    "cached_attention",
    "loss",
    "dropout",
    "norm",
    "embedding",
    "optimizer",
    "activation",
    "column_sums",
    "cast",
    "dropout_of_a_part",
]
TOOLS = {
    "racecheck": KERNELS,
    "memcheck": KERNELS,
    # Not of the four that make or use packed masks: attention reads words of later keys, which nobody writes, and
    # ignores them, as the stand-in shows, whose memory is poisoned; nor of cast, whose tests take minutes under it.
    "initcheck": ["activation", "cached_attention", "column_sums", "embedding", "loss", "norm", "optimizer"],
}
DRY = {"racecheck": ["cast", "dropout_of_a_part"]}
LIMIT = 110  # seconds: the sanitizer makes a kernel a hundred times as slow
SUMMARY = "SUMMARY: "


def sanitized(step: Step) -> None:
    """Each tool on each kernel's tests, many at a time; in a dry run, two tests without the sanitizer."""
    if not step.dry and shutil.which("compute-sanitizer") is None:
        step.emit("sanitizer", skipped="compute-sanitizer is not installed")
        return
    with ThreadPoolExecutor(min(12, os.cpu_count() or 1)) as pool:
        jobs = {
            pool.submit(checked, step, tool, kernel): (tool, kernel)
            for tool, kernels in step.pick(TOOLS, DRY).items()
            for kernel in kernels
        }
        for done in as_completed(jobs):
            tool, kernel = jobs[done]
            step.emit(tool, kernel=kernel, **done.result())


def checked(step: Step, tool: str, kernel: str) -> dict[str, Any]:
    """One tool on the tests of one kernel: pytest's exit code, or 9 if the tool found something, and what it said."""
    sanitizer = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
    chosen = step.pick(["-m", "gpu"], ["-m", "not gpu", "-k", "casts_round or all_ranks"])
    command = [*step.pick(sanitizer, []), *PYTEST, *chosen, f"tests/backend/cuda/test_{kernel}.py"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {LIMIT} s"}
    lines = done.stdout.splitlines()
    found = [line.split("=========")[-1].strip() for line in lines if line.startswith("=====")]
    summary = [line for line in found if SUMMARY in line]
    passed = [line for line in lines if " passed" in line]
    found = found[:20] if done.returncode else []
    return {"code": done.returncode, "summary": summary, "tests": passed, "found": found}


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(sanitized))
