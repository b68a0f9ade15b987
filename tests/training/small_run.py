"""A small run for tests: its configuration, and all that decides what it does next."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from training.small import TEXT

from nanograd_gpt.training.config import RunConfig, preset
from nanograd_gpt.training.loop import StepResult
from nanograd_gpt.training.run import Run

SIZES = {"n_merges": 10, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.2}
COURSE = {"batch_size": 10, "epochs": 2, "schedule": "cosine", "warmup_steps": 2, "eval_freq": 2, "eval_iter": 2}


def small_config(directory: Path) -> RunConfig:
    """5 batches an epoch; evaluations draw from the loader's stream on the way, and dropout from the model's."""
    path = directory / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return preset("tiny").replace({**SIZES, **COURSE, "data": str(path)})


def facts(report: StepResult) -> tuple[Any, ...]:
    return tuple(float(value) if isinstance(value, np.ndarray) else value for value in vars(report).values())


def state(run: Run) -> tuple[Any, ...]:
    """The complete state that determines the next update."""
    optimizer = run.optimizer
    arrays = (optimizer.flat.data, optimizer.exp_avg, optimizer.exp_avg_sq)
    streams = (run.model.rng.state(), run.data_rng.state())
    return (*(a.tobytes() for a in arrays), optimizer.steps, asdict(run.progress), streams)
