"""The header of a training: the sizes of model and data, the length of the run, and what it is expected to take."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from ..backend.cpu.threads import n_threads
from ..bench.expected import expected_of
from ..bench.machine import physical_memory
from ..errors import counted
from ..parallel.mpi_ranks import MPIRanks
from ..parallel.ranks import Ranks
from ..tokenizer.encoding import padding_ids
from ..training.run import Run
from .figures import load_drawing
from .info import gigabytes
from .options import note


def print_header(training: Run, directory: Path, done: int = 0, rate: str | None = None, freed: int = 0) -> None:
    """Print the run's sizes and what it is expected to take; `freed` bytes are in use now and not in training."""
    model, data, t = training.config.model, training.config.data, training.config.training
    batches = len(training.train_loader), len(training.val_loader)
    left = training.total_steps - done
    print(
        f"model       {counted(model.n_layers, 'layer')}, {counted(model.emb_dim, 'channel')}, "
        f"{counted(model.n_heads, 'head')}, context {model.context_length}: {model.n_parameters:,} parameters"
    )
    print(
        f"data        {data.data}: {counted(len(training.text), 'character')}, vocabulary {_vocabulary(training)}; "
        f"{counted(batches[0], 'batch')} of {data.batch_size} to train on, {batches[1]:,} to validate"
    )
    if t.weights:
        print(f"weights     {t.weights}")
    updates = counted(training.total_steps, "update")
    updates = f"{left:,} of {updates} left" if done else updates
    epochs = counted(-(-training.total_steps // training.steps_per_epoch), "epoch")
    within = "within" if training.total_steps % training.steps_per_epoch else "in"
    print(f"training    {updates} {within} {epochs} on {training.device}, seed {t.seed}")
    _print_ranks(training.ranks)
    if rate is not None:
        print(f"schedule    learning rate {rate}")
    load_drawing()
    expected = expected_of(training, done, freed)
    each = " on each rank" if training.ranks.size > 1 else ""
    print(f"expected    {gigabytes(expected.memory)} of memory{each}, about {_duration(expected.seconds)}")
    print(f"directory   {directory}", flush=True)
    machine = physical_memory() if training.device == "cpu" else None
    if machine is not None and expected.memory > machine:
        note(
            f"this machine has {gigabytes(machine)} of memory, less than the run is expected to take; choose a smaller "
            "--batch-size, --context-length or model"
        )


def _print_ranks(ranks: Ranks) -> None:
    """Print where each of several ranks runs, to be found if it fails."""
    if not isinstance(ranks, MPIRanks):
        return
    hosts: dict[str, list[str]] = defaultdict(list)
    for rank, (host, pid) in enumerate(ranks.hosts):
        hosts[host].append(f"{rank} ({pid})")
    threads = f"{counted(n_threads(), 'thread')} each"
    parts = "; the optimizer in parts" if ranks.sharded else ""
    print(f"ranks       {ranks.size} on {counted(len(hosts), 'host')}, {threads}{parts}")
    for host, own in hosts.items():
        print(f"            {host}: rank (process) {', '.join(own)}")


def _vocabulary(training: Run) -> str:
    V = training.config.model.vocab_size
    padding = len(padding_ids(training.tokenizer, V))
    return f"{V - padding:,} padded to {V:,}" if padding else f"{V:,}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
