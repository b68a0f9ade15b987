"""Memory that is freed stays for the next update or is given back; what is never written to takes none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from nanograd_gpt import keep_freed_memory
from nanograd_gpt.backend.cpu.allocator import give_freed_memory_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
before = resident()
arrays = [np.ones(6 << 20, dtype=np.float32) for _ in range(9)]  # 24 MiB each: more than imports free at once, to which
# glibc fits its threshold, and less than the threshold that is set
held = resident()
arrays.clear()
kept = resident()
give_freed_memory_back()
print(held - before, kept - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_freed_arrays_stay_until_they_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    held, kept, after = (int(n) / 2**20 for n in done.stdout.split())
    assert held > 190
    assert kept > 190
    assert after < 50


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
@pytest.mark.parametrize("variable", [None, "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_an_import_keeps_no_memory_and_thresholds_of_the_users_stay(variable: str | None) -> None:
    code = CODE.replace("\nkeep_freed_memory()", "") if variable is None else CODE
    value = {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    env = os.environ | ({} if variable is None else {variable: value[variable]})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    held, kept, _ = (int(n) / 2**20 for n in done.stdout.split())
    assert held > 190
    assert kept < 50


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_rows_that_no_token_has_used_take_no_memory() -> None:
    code = """
import numpy as np
from nanograd_gpt import AdamW
from nanograd_gpt.nn import Embedding

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

embedding, ids = Embedding(65536, 256), np.arange(0, 65536, 512)  # 64 MiB, with an id in each 0.5 MiB
optimizer = AdamW(embedding.parameters())
before = resident()
for _ in range(2):
    embedding(ids).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 2**20 < 8  # of 192 for a gradient and two means
