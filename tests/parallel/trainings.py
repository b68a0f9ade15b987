"""Short trainings of a small model, by one process or by one rank of several, and what is compared of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from hashlib import sha256
from itertools import islice, product
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from nanograd_gpt.backend.select import Device, to_host
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.parallel.ranks import ALONE, Command, Ranks
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import checkpoints

UPDATES = 30
TOLERANCE = {"float64": 1e-13, "float32": 1e-6}
TEXT = "".join(f"{i}: the cat sat on mat {i % 7}, and the dog saw cat {i * i % 11}.\n" for i in range(160))
SMALL = {
    "n_merges": 40,
    "emb_dim": 16,
    "n_heads": 2,
    "n_layers": 2,
    "context_length": 10,
    "batch_size": 12,
    "epochs": 30,
    "max_steps": UPDATES,
    "lr": 5e-3,
    "schedule": "cosine",
    "warmup_steps": 5,
    "decay_steps": UPDATES,
    "drop_rate": 0.1,
    "max_norm": 0.5,
    "eval_freq": 5,
    "eval_iter": 100,
    "watch_every": 20,
    "checkpoint_minutes": 1.0,
    "train_ratio": 0.7,
}


class Case(TypedDict):
    """A training: settings that differ from SMALL, the numbers' type, and whether the optimizer is divided."""

    settings: dict[str, Any]
    dtype: str
    sharded: bool
    device: NotRequired[Device]  # the CPU otherwise
    wrong: NotRequired[str]  # a wrong design
    agree_every: NotRequired[int]  # updates between comparisons of the ranks
    stop: NotRequired[int]  # after so many updates, with a checkpoint
    directory: NotRequired[str]  # of the run's checkpoints, the last of which it goes on from


class Trained(TypedDict):
    """The course of a training."""

    losses: list[float]
    norms: list[float]
    evaluations: list[list[float]]
    tokens: int
    parameters: str  # a hash of the bits, which all ranks have


def cases(dtypes: tuple[str, ...] = ("float64", "float32")) -> Iterator[Case]:
    """Every combination: accumulation, a tied head, both random streams, the optimizer whole and divided."""
    for dtype, accumulate, tied, random, sharded in product(
        dtypes, (1, 2), (False, True), ("own", "torch"), (False, True)
    ):
        settings = {"accumulate": accumulate, "tied_head": tied, "random": random}
        yield Case(settings=settings, dtype=dtype, sharded=sharded)


class TypedRun(Run):
    """A run whose numbers are of the type `numbers`."""

    numbers = np.dtype("float32")

    @cached_property
    def model(self) -> GPTModel:
        return GPTModel(self.config.model, rng=self.model_rng).to(self.device, self.numbers)


def new_run(case: Case, ranks: Ranks = ALONE) -> Run:
    """The run of a case, from its last checkpoint if it has one."""
    TypedRun.numbers = np.dtype(case["dtype"])
    config = preset("tiny").replace({**SMALL, **case["settings"]})
    run = TypedRun(config, case.get("device", "cpu"), text=TEXT, ranks=ranks)
    if (directory := case.get("directory")) and (found := checkpoints(Path(directory))):
        run.load(found[-1])
    return run


def trained(run: Run, case: Case) -> Trained:
    """Train to the end or to a checkpoint, on rank 0 or alone."""
    losses, norms, evaluations = [], [], []
    for report in islice(run.steps(), case.get("stop")):
        losses.append(float(report.loss))
        norms.append(float(report.grad_norm) if report.grad_norm is not None else 0.0)
        if report.evaluation is not None:
            evaluations.append([*report.evaluation])
    if "stop" in case:
        run.save(Path(case["directory"]))
    else:
        evaluations.append([*run.evaluate()])
    run.ranks.lead(Command.END)
    return Trained(
        losses=losses, norms=norms, evaluations=evaluations, tokens=run.progress.tokens_seen, parameters=bits(run)
    )


@cache
def _alone(settings: tuple[tuple[str, Any], ...], dtype: str) -> Trained:
    case = Case(settings=dict(settings), dtype=dtype, sharded=False)
    return trained(new_run(case), case)


def alone(case: Case) -> Trained:
    """The same training in this process."""
    return _alone(tuple(sorted(case["settings"].items())), case["dtype"])


def bits(run: Run) -> str:
    digest = sha256()
    for p in run.model.parameters():
        digest.update(np.ascontiguousarray(to_host(p.data)).data)
    return digest.hexdigest()


def difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The largest relative difference of losses, gradient norms and evaluations."""
    assert a["tokens"] == b["tokens"]
    worst = 0.0
    for name in ("losses", "norms", "evaluations"):
        x, y = np.array(a[name]), np.array(b[name])
        assert x.shape == y.shape
        assert x.size
        worst = max(worst, float(np.max(np.abs(x - y) / np.abs(x))))
    return worst


def data_path(directory: Path) -> Path:
    """TEXT as a file, for the command line."""
    path = directory / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path
