"""A rank ends even where MPI's Abort never returns, as it does not while a host is out of reach."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import time

import mpi4py

mpi4py.rc(initialize=False)

from nanograd_gpt.parallel.watchdog import Watchdog


class Sent:
    def Test(self):
        return False


class Comm:
    rank, size = {rank}, 2

    def Iprobe(self, *_):
        return False

    def Isend(self, *_):
        return Sent()

    def Abort(self, code):
        ctypes.PyDLL(None).sleep(600)  # keeps Python's lock, as mpi4py does


watchdog = Watchdog(Comm(), 0.1, ["h0, process 1", "h1, process 2"])
watchdog.reported = {reported}
with watchdog.waiting("a sum"):
    time.sleep(600)
"""


@pytest.mark.parametrize(("rank", "reported"), [(0, False), (1, True)])
def test_a_rank_ends_by_a_signal_where_abort_does_not_return(rank: int, reported: bool) -> None:
    pytest.importorskip("mpi4py")
    program = PROGRAM.format(rank=rank, reported=reported)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGALRM  # mpiexec goes on waiting after a process that exits by itself
    if reported:
        assert done.stderr == ""
    else:
        assert done.stderr.startswith("error: rank 1 (h1, process 2) does not answer, for 0.1 s in a sum; the run ends")
        assert done.stderr.count("\n") == 1
