"""Freed memory is kept for the next update, and given back after a setting up."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import numpy as np
import nanograd_gpt
from nanograd_gpt.backend.cpu.allocator import give_freed_memory_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
arrays = [np.ones(1 << 18, dtype=np.float32) for _ in range(200)]  # 1 MiB each
held = resident()
arrays.clear()
kept = resident()
give_freed_memory_back()
print(held - before, kept - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_arrays_stay_until_they_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    held, kept, after = (int(n) / 2**20 for n in done.stdout.split())
    assert held > 190
    assert kept > 190
    assert after < 50
