"""The short form of tests/kills/run.py: thirty kills, spread over all file operations of a training."""

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
from run import killed, memory_disk

with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
    trial = killed(30, 7, lambda operations: [*range(3, operations, operations // 20)], Path(directory))
assert trial.kills >= 30, trial.kills
print(*trial.wrong, sep="\\n", end="")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_a_run_killed_anywhere_goes_on_to_the_same_bits() -> None:
    script = SHORT.format(here=str(HERE))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
