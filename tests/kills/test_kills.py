"""The short forms of tests/kills/run.py, faults.py, disks.py and together.py, spread over a small training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHORT = """
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, {here!r})
import disks
from faults import failed
from run import killed
from together import together
from trial import memory_disk

with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
    {what}
print(*trial.wrong, sep="\\n", end="")
"""
KILLS = """
    trial = killed(30, 7, lambda operations: [*range(3, operations, operations // 20)], Path(directory))
assert trial.kills >= 30, trial.kills
"""
FAULTS = """
    trial = failed(24, 7, Path(directory))
assert trial.ended >= 8, trial.ended
"""
TOGETHER = """
    trial = together(6, Path(directory))
assert trial.refusals >= 1, trial.refusals
assert len(trial.readings) == 5 and all(outcomes["worked"] >= 2 for outcomes in trial.readings.values()), trial.readings
"""
DISKS = """
    trial = disks.failed(15, 7, Path(directory))
assert trial.refused >= 5, trial.refused
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
@pytest.mark.parametrize("what", [KILLS, FAULTS, TOGETHER], ids=["killed", "with a fault", "read"])
def test_a_run_that_something_happens_to_ends_with_the_same_bits(what: str) -> None:
    script = SHORT.format(here=str(HERE), what=what.strip())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file systems in memory are Linux's")
def test_a_run_whose_disk_is_full_or_read_only_goes_on_to_the_same_bits_once_it_is_not() -> None:
    """On real file systems, which root may mount; elsewhere in a namespace of the user's, if that is allowed."""
    script = SHORT.format(
        here=str(HERE), what="if reason := disks.why_no_mounts():\n        sys.exit(reason)\n" + DISKS
    )
    in_namespace = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*in_namespace, sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and ("cannot be mounted" in done.stderr or done.stderr.startswith("unshare: ")):
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
