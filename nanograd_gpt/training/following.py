"""A training on several ranks: rank 0 has read everything and tells the others, which then do as it does.

Only rank 0 uses files.  The others get text, tokenizer, settings, position and streams from it, then parameters and
moments, and take part in each update and evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tiktoken

from ..backend.cpu.threads import n_threads, set_threads
from ..backend.precision import precision, set_precision
from ..backend.select import Device
from ..parallel.mpi_ranks import MPIRanks
from ..parallel.nccl_ranks import ranks_on
from ..parallel.ranks import Command
from ..rng.generator import State
from .config import RunConfig
from .loop import Progress
from .run import Run


@dataclass(frozen=True)
class Start:
    """All that another rank needs of rank 0's run, except the arrays."""

    config: RunConfig
    text: str
    tokenizer: tiktoken.Encoding
    device: Device
    precision: str
    threads: int | None  # chosen by the user
    sharded: bool
    wait_limit: float  # seconds
    progress: Progress
    model_stream: State
    data_stream: State
    optimizer: dict[str, Any]  # settings and step counts


def start_ranks(run: Run, wait_limit: float) -> None:
    """Give rank 0's run to the other ranks; they follow each update from here on.

    wait_limit: seconds after which a rank that does not answer ends the run
    """
    ranks = run.ranks
    if not isinstance(ranks, MPIRanks):
        return
    state = run.optimizer.state_dict()
    ranks.lead(Command.START)
    ranks.broadcast(
        Start(
            config=run.config,
            text=run.text,
            tokenizer=run.tokenizer,
            device=run.device,
            precision=precision(),
            threads=n_threads() if n_threads() != ranks.threads else None,
            sharded=ranks.sharded,
            wait_limit=wait_limit,
            progress=run.progress,
            model_stream=run.model_rng.state(),
            data_stream=run.data_rng.state(),
            optimizer={name: value for name, value in state.items() if not name.startswith("exp_avg")},
        )
    )
    ranks = run.ranks = ranks_on(run.device, ranks)
    ranks.share(run.optimizer, wait_limit)


def follow(ranks: MPIRanks, signal: Callable[[], int | None]) -> int:
    """Take part in the training that rank 0 leads, to its end; returns its exit code.

    signal: the number of one that this process has received, which stops the training after the update
    """
    if ranks.follow(signal()) == Command.END:  # before the training: an error, or --help
        return ranks.code
    start: Start = ranks.broadcast(None)
    ranks = ranks_on(start.device, ranks)
    return follow_run(_followed(ranks, start), ranks, signal)


def follow_run(run: Run, ranks: MPIRanks, signal: Callable[[], int | None]) -> int:
    """Do with a run what rank 0 does with its own, to the end; returns the exit code."""
    steps = run.steps()
    with np.errstate(all="ignore"):  # rank 0 reports a loss that is not finite
        while (command := ranks.follow(signal())) != Command.END:
            if command == Command.UPDATE:
                next(steps, None)
            elif command == Command.EVALUATE:
                run.evaluate()
            elif command == Command.EVALUATE_WEIGHTS:
                run.evaluate_weights()
            elif command == Command.SHARE_MOMENTS:
                with ranks.whole_moments(run.optimizer):
                    pass
    return ranks.code


def _followed(ranks: MPIRanks, start: Start) -> Run:
    """Build the run that rank 0 leads."""
    if start.threads is not None:
        set_threads(start.threads)
    set_precision(start.precision)
    run = Run(start.config, start.device, start.tokenizer, start.config.model.vocab_size, start.text, ranks)
    run.optimizer.load_settings(start.optimizer)
    run.progress = start.progress
    run.model_rng.set_state(start.model_stream)
    run.data_rng.set_state(start.data_stream)
    ranks.sharded = start.sharded
    ranks.share(run.optimizer, start.wait_limit)
    return run
