"""One rank of the command line, which fails on purpose: FAULT holds the rank, the update and the kind as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from errno import ENOSPC
from functools import partial
from typing import Any

from cli import undrawn

from nanograd_gpt.cli import main
from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.training import run

undrawn.leave_out(setattr)
fault = json.loads(os.environ.get("FAULT", "null"))
whole, written = MPIRanks.at_update, run.write_checkpoint
n_written = 0


def at_update(ranks: MPIRanks, step: int, state: Callable[[], Mapping[str, str]]) -> None:
    if (ranks.rank, step) == (fault["rank"], fault.get("update")):
        if fault["kind"] == "other streams":
            state = partial(dict, state(), **{"the loader's random stream": "another"})
        else:
            raise {"memory": MemoryError("2 GiB"), "bug": ZeroDivisionError("a mistake of ours")}[fault["kind"]]
    whole(ranks, step, state)


def write_checkpoint(*arguments: Any) -> None:
    global n_written
    n_written += 1
    if n_written == 2:
        raise OSError(ENOSPC, "No space left on device", str(arguments[0]))
    written(*arguments)


if fault is not None and fault["kind"] == "full disk":
    run.write_checkpoint = write_checkpoint
elif fault is not None:
    MPIRanks.at_update = at_update  # type: ignore[method-assign]
sys.exit(main())
