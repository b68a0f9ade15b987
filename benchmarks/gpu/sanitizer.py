"""compute-sanitizer on the kernels' tests: memory errors, races, reads of what was never written."""

from __future__ import annotations

import shutil
import subprocess
import sys

from step import ROOT, Step

TOOLS = ["memcheck", "racecheck", "initcheck"]
KERNELS = ["column_sums", "norm", "optimizer"]  # the sanitizer makes a kernel a hundred times as slow
ERRORS = "ERROR SUMMARY: "


def sanitized(step: Step) -> None:
    if shutil.which("compute-sanitizer") is None:
        step.emit("sanitizer", skipped="compute-sanitizer is not installed")
        return
    for tool in TOOLS:
        files = [f"tests/backend/cuda/test_{name}.py" for name in KERNELS]
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *pytest, "-m", "gpu", *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found = [line.split("=========")[-1].strip() for line in done.stdout.splitlines() if "=====" in line]
        step.emit(tool, code=done.returncode, summary=[line for line in found if ERRORS in line], first=found[:20])


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(sanitized))
