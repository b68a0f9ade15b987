"""Another program of this folder on the stand-in for CuPy, with a GPU for each rank: its name, then its arguments."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from mpi4py import MPI
from standin.cupy_standin import installed

_, program, *arguments = sys.argv
sys.argv = [program, *arguments]
with installed() as record:
    record.gpus = MPI.COMM_WORLD.size
    record.peers = MPI.COMM_WORLD.Dup().allgather
    runpy.run_path(str(Path(__file__).with_name(f"{program}.py")), run_name="__main__")
