"""Another program of this folder on the stand-in for CuPy, by its name and arguments.

STANDIN holds its faults as JSON: the number of the host's GPUs [one for each rank], the rank without NCCL, and the part
that fails with NCCL's error.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from functools import cache
from pathlib import Path
from typing import Any

from standin.cupy_standin import installed
from standin.nccl import INVALID_USAGE, NcclError

from nanograd_gpt.parallel.launched import launched


@cache
def world() -> Any:
    """A communicator of its own, from the first use on: the command line joins the processes itself."""
    from mpi4py import MPI

    return MPI.COMM_WORLD.Dup()


_, program, *arguments = sys.argv
sys.argv = [program, *arguments]
place = launched()
faults = json.loads(os.environ.get("STANDIN", "{}"))
with installed() as record:
    record.gpus = faults.get("gpus", place.size if place else 1)
    record.has_nccl = faults.get("without NCCL") != (place.rank if place else 0)
    record.failing = {faults["failing"]: NcclError(INVALID_USAGE)} if "failing" in faults else {}
    record.peers = lambda value: world().allgather(value)
    runpy.run_path(str(Path(__file__).with_name(f"{program}.py")), run_name="__main__")
