"""Gradients cross the network during the backward pass, each byte once."""

from __future__ import annotations

import json
import os
import sys

import pytest
from project_files import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import hosts
from data_parallel_model import sent_by_ring

RANK = str(ROOT / "benchmarks" / "data_parallel_rank.py")
SIZES = ["256", "4", "16", "64"]  # width, layers, batch and length: 14 MB of gradients in four buckets
GIGABIT = 1e9
NOTHING = 100_000  # bytes of barriers, and of the watchdog

pytestmark = pytest.mark.skipif(hosts.missing() is not None, reason=str(hosts.missing()))


@pytest.mark.slow
def test_buckets_are_sent_during_the_backward_pass_and_each_byte_once() -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with hosts.Hosts(2, bits_per_second=GIGABIT) as both:
        variables = {"PYTHONPATH": path, "NANOGRAD_THREADS": "1", "OMP_NUM_THREADS": "1"}
        found = json.loads(both.run(sys.executable, RANK, "steps", "2", *SIZES, seconds=60, env=variables))
    ideal = sent_by_ring(2, sum(found["nbytes"]))  # halving sends as much over two hosts
    assert len(found["nbytes"]) == 4
    ways = found["ways"]
    for step in ways["none"]:
        assert step["sent_in_backward"] + step["sent_after"] < NOTHING
    for step in ways["plain"] + ways["overlapped"]:
        assert ideal <= step["sent_in_backward"] + step["sent_after"] < 1.05 * ideal
    assert all(step["sent_in_backward"] < NOTHING for step in ways["plain"])
    assert all(step["sent_in_backward"] > NOTHING for step in ways["overlapped"])
