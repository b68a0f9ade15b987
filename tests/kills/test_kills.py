"""The short forms of tests/kills/run.py, faults.py and together.py, a few kills, faults and updates each."""

from __future__ import annotations

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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
@pytest.mark.parametrize("what", [KILLS, FAULTS, TOGETHER], ids=["killed", "with a fault", "read"])
def test_a_run_that_something_happens_to_ends_with_the_same_bits(what: str) -> None:
    script = SHORT.format(here=str(HERE), what=what.strip())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
