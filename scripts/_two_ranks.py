"""The work of each of two processes for 15_data_parallel.py: trainings, right and wrong, and updates by the clock.

`in_two_ranks` starts this file with mpiexec; rank 0 prints what the two have found, as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, TypeVar

import numpy as np
from _one_line import UsageError

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.errors import RunError
from nanograd_gpt.parallel.launched import INSTALL, launched, mpi_ranks
from nanograd_gpt.parallel.mpi_ranks import AGREE_EVERY, PRINTED_WITHIN, MPIRanks
from nanograd_gpt.parallel.ranks import ALONE, Ranks
from nanograd_gpt.rng import ALL, Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.corpus import load_text
from nanograd_gpt.training.loop import state_of, training_steps
from nanograd_gpt.training.loss import evaluate_model
from nanograd_gpt.training.run import Run

RIGHT, UNSUMMED, SAME_MASK = "as it should be", "gradients not summed", "the same mask on every rank"
ONE_EVALUATES, CLIPPED_FIRST = "evaluation on rank 0 alone", "clipped before the sum"
MAX_NORM, EVAL_FREQ, EVAL_ITER = 0.5, 5, 2
SMALL = preset("tiny").replace(
    {"emb_dim": 32, "n_heads": 2, "n_layers": 2, "context_length": 32, "n_merges": 128, "drop_rate": 0.1}
)
TIMED_UPDATES = 4  # the first of which allocate memory
LIMIT = 300  # seconds for all that two ranks do

AnyRanks = TypeVar("AnyRanks", bound=MPIRanks)


class Unsummed(MPIRanks):
    """Wrong: each rank goes on with the gradient of its own rows."""

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        loss.backward()

    def sum_gradients(self, optimizer: AdamW) -> None:
        """Leave them as they are."""


class ClippedFirst(MPIRanks):
    """Wrong: each rank clips the gradient of its own rows, and their sum is not clipped."""

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        loss.backward()

    def sum_gradients(self, optimizer: AdamW) -> None:
        _, scale = optimizer.clip_scale(MAX_NORM / self.size)
        gradients = optimizer.flat.grad
        gradients *= scale
        super().sum_gradients(optimizer)

    def step(self, optimizer: AdamW, max_norm: float | None) -> Array | None:
        return super().step(optimizer, None)


KINDS: dict[str, type[MPIRanks]] = {UNSUMMED: Unsummed, CLIPPED_FIRST: ClippedFirst}


def trained(design: str, n_updates: int, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Train a small model in float64; returns its losses, and what the ranks' comparison of states says at the end."""
    run = Run(SMALL, "cpu", text=load_text()[:8000], ranks=ranks)
    run.model.to(dtype=np.float64)
    if design == SAME_MASK:
        run.model_rng.part = ALL  # the whole batch's mask begins with the same rows for each rank
    loaders = run.train_loader, run.val_loader
    losses, evaluations = [], []
    for step in training_steps(
        run.model,
        *loaders,
        run.optimizer,
        "cpu",
        num_epochs=SMALL.training.epochs,
        eval_freq=n_updates,
        eval_iter=EVAL_ITER,
        max_steps=n_updates,
        max_norm=MAX_NORM,
        progress=run.progress,
        ranks=ranks,
    ):
        losses.append(float(step.loss))
        if step.global_step % EVAL_FREQ == 0:
            if design != ONE_EVALUATES:
                evaluations.append(evaluate_model(run.model, *loaders, "cpu", EVAL_ITER, ranks=ranks).val_loss)
            elif ranks.rank == 0:
                evaluations.append(evaluate_model(run.model, *loaders, "cpu", EVAL_ITER).val_loss)
    says = ""
    try:  # as before every AGREE_EVERY-th update
        ranks.at_update(AGREE_EVERY, partial(state_of, run.model, run.train_loader, run.optimizer, run.progress))
    except RunError as error:
        says = str(error)
    return {"losses": losses, "evaluations": evaluations, "says": says}


class Timed(MPIRanks):
    """Ranks that note when each sum begins, and when it is seen to have ended."""

    def __init__(self, comm: Any) -> None:
        super().__init__(comm)
        self.sums: list[dict[str, float]] = []
        self.under_way: list[tuple[Any, dict[str, float]]] = []

    def _send(self, part: Array) -> None:
        self.sums.append({"bytes": part.nbytes, "start": perf_counter()})
        super()._send(part)
        self.under_way.append((self._requests[-1], self.sums[-1]))

    def _progress(self) -> None:
        super()._progress()
        self._note_ends()

    def _finish(self) -> None:
        super()._finish()
        self._note_ends()

    def _note_ends(self) -> None:
        for request, noted in self.under_way:
            if not request:  # MPI has taken it back
                noted["end"] = perf_counter()
        self.under_way = [(request, noted) for request, noted in self.under_way if request]


def timed_updates(ranks: Timed, n_layers: int) -> dict[str, Any]:
    """Take updates of a larger model; returns the times of the last: where its parts begin and end, and its sums."""
    config = preset("tiny").replace({"emb_dim": 256, "n_heads": 8, "n_layers": n_layers, "vocab_size": 640}).model
    model = GPTModel(config, rng=Generator(123))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    ids = np.random.default_rng(123).integers(0, config.vocab_size, (8, config.context_length + 1))
    own = np.array_split(ids, ranks.size)[ranks.rank]
    for _ in range(TIMED_UPDATES):
        ranks.sums = []
        ranks.comm.Barrier()
        times = [perf_counter()]
        optimizer.zero_grad()
        loss = model.loss(own[:, :-1], own[:, 1:]) * (1 / ranks.size)
        times.append(perf_counter())
        ranks.backward(loss, optimizer, last=True)
        times.append(perf_counter())
        ranks.sum_gradients(optimizer)
        times.append(perf_counter())
        ranks.step(optimizer, MAX_NORM)
        times.append(perf_counter())
    return {"times": times, "sums": ranks.sums, "bytes": optimizer.flat.grad.nbytes}


def mpiexec() -> str | None:
    """The launcher beside this Python, whose MPI is mpi4py's, or else the one on PATH."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def missing_mpi() -> str | None:
    """Name in a sentence what is missing here to start ranks; None if nothing is."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    return None if mpiexec() else "mpiexec is not installed"


def in_two_ranks(designs: Sequence[str], n_updates: int, n_layers: int) -> dict[str, Any]:
    """Run this file in two processes; returns trainings by design, and the timed update of each rank."""
    if launched() is not None:
        raise UsageError(f"{Path(sys.argv[0]).name} starts its two ranks itself; run it without mpiexec")
    if missing := missing_mpi():
        raise RunError(f"{missing}, and two ranks need it; {INSTALL}")
    command = [str(mpiexec()), "-n", "2", sys.executable, __file__, json.dumps([designs, n_updates, n_layers])]
    as_root = dict.fromkeys(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"], "1")  # in a container
    environment = {**os.environ, "NANOGRAD_THREADS": "1", **as_root}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise RunError(f"the two ranks have not ended within {LIMIT} s; does `mpiexec -n 2 hostname` work?") from None
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
        raise RunError(f"the two ranks ended with exit code {done.returncode}, for the reason above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(designs: Sequence[str], n_updates: int, n_layers: int) -> None:
    """Do what in_two_ranks asks for, in one of the ranks."""
    place = launched()
    assert place is not None
    ranks = mpi_ranks(place)
    try:
        trainings = {}
        for design in designs:
            with closing_watchdog(KINDS.get(design, MPIRanks)(ranks.comm)) as of_design:
                trainings[design] = trained(design, n_updates, of_design)
        with closing_watchdog(Timed(ranks.comm)) as timed:
            update = ranks.comm.gather(timed_updates(timed, n_layers))
    except BaseException:  # the other rank would wait for ever
        traceback.print_exc()
        sleep(PRINTED_WITHIN)  # the other rank may still be printing, too
        ranks.comm.Abort(1)
    ranks.watchdog.end()
    if ranks.rank == 0:
        print(json.dumps({"trainings": trainings, "update": update}))


@contextmanager
def closing_watchdog(ranks: AnyRanks) -> Iterator[AnyRanks]:
    """Stop the ranks' watchdog at the end of this block, while MPI still works."""
    yield ranks
    ranks.watchdog.end()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
