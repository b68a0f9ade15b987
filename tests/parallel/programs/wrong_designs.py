"""Six designs of data parallelism that are wrong; each trains without an error of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.optim import AdamW
from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.parallel.ranks import ALONE
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.training import loop
from nanograd_gpt.training.run import Run


class UnsummedLoss(MPIRanks):
    """Each rank reports the loss of its own rows."""

    def sum(self, numbers: Array) -> Array:
        return numbers * self.size


class ClipBeforeSum(MPIRanks):
    """Each rank clips its own gradients."""

    def sum_gradients(self, optimizer: AdamW) -> None:
        _, scale = optimizer.clip_scale(0.5 / self.size)
        gradients = optimizer.flat.grad
        gradients *= scale
        super().sum_gradients(optimizer)

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        loss.backward()

    def clip_scale(self, optimizer: AdamW, max_norm: float) -> tuple[Array, Array]:
        norm, _ = super().clip_scale(optimizer, max_norm)
        return norm, np.ones_like(norm)


class MeanOfMeans(MPIRanks):
    """An evaluation averages the ranks' means, however many rows each has."""

    def mean_losses(self, losses: Sequence[float], rows: Sequence[int]) -> list[float]:
        return super().mean_losses(losses, [1] * len(rows))


class HookEachTime(MPIRanks):
    """Gradients are summed after each of the accumulated batches."""

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        super().backward(loss, optimizer, last=True)
        self._buckets_of(optimizer).send_rest()
        self._finish()


class EvaluationOnRank0(MPIRanks):
    """Only rank 0 evaluates."""


DESIGNS: dict[str | None, type[MPIRanks]] = {
    "unsummed loss": UnsummedLoss,
    "clip before the sum": ClipBeforeSum,
    "mean of unequal rows": MeanOfMeans,
    "hook on every batch": HookEachTime,
    "evaluation on rank 0": EvaluationOnRank0,
    "the same mask": MPIRanks,
}


def spoil(design: str | None, run: Run) -> None:
    """Make a run wrong, where the ranks alone do not."""
    if design == "the same mask":
        run.model_rng.part = (0, 1)
    whole = loop.evaluate_model
    if design == "evaluation on rank 0":

        def evaluate(*arguments: Any, ranks: Any) -> Any:
            if run.ranks.rank:
                return loop.Evaluation(0.0, 0.0)
            return whole(*arguments, ranks=ALONE)

        loop.evaluate_model = evaluate
