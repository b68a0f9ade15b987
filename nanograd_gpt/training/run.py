"""A run: everything made from its configuration, and its directory.

runs/NAME/config.toml  environment.json  tokenizer.json  metrics.jsonl  samples.txt
          figures/*.png|svg  report.html  checkpoints/step_N/
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from threadpoolctl import threadpool_info

from ..backend.cpu.threads import n_threads, with_blas_threads
from ..backend.select import Device
from ..errors import InputError
from ..gpt.model import GPTModel
from ..gpt.tokenizer import get_tokenizer, save_tokenizer, train_tokenizer
from ..optim import AdamW
from ..rng import Generator, RandomStream, TorchStream
from .checkpoint import load_checkpoint, save_checkpoint
from .config import DataConfig, RunConfig, TrainingConfig, settings_in
from .corpus import load_text, split_text
from .data import DataLoader, create_dataloader_v1
from .loop import Progress, Report, training_steps
from .schedule import Flat, Schedule, WarmupCosine
from .text_of_run import text_hash, way_to_text, with_absolute_paths
from .weights import copy_weights, weights_hash

MODEL_STREAM, DATA_STREAM = 0, 1  # of random numbers, so that one does not shift the other
KEPT_CHECKPOINTS = 2


class Run:
    """A training from its configuration, ready to start.

    Raises InputError where the text is too short for one window of training and one of validation.
    """

    def __init__(self, config: RunConfig, device: Device, tokenizer: tiktoken.Encoding | None = None) -> None:
        self.text = load_text(config.data.data)
        self.tokenizer = tokenizer or tokenizer_for(config.data, self.text)
        self.config = config = config.changed({"vocab_size": self.tokenizer.n_vocab})
        self.device = device
        self.train_text, self.val_text, self.test_text = split_text(
            self.text, config.data.train_ratio, config.data.test_ratio
        )
        self.model_rng, self.data_rng = streams(config.training)
        self.train_loader = self._loader(self.train_text, train=True)
        self.val_loader = self._loader(self.val_text, train=False)
        for what, loader in (("training", self.train_loader), ("validation", self.val_loader)):
            if len(loader) == 0:
                raise InputError(
                    f"data: the {what} part of {config.data.data!r} has {self._n_tokens(what)} tokens, too few for "
                    f"a batch of windows of {config.model.context_length}; use more text, or a smaller "
                    "--context-length or --batch-size"
                )
        if not self.tokenizer.encode(config.training.prompt, disallowed_special=()):
            raise InputError("prompt: it is empty; give a text that samples are to continue")
        self.progress = Progress()
        self.weights_sha256: str | None = None  # of what it began from, if not from random numbers

    @cached_property
    def model(self) -> GPTModel:
        """Made when it is first asked for: a dry run never does."""
        return GPTModel(self.config.model, rng=self.model_rng).to(self.device)

    @cached_property
    def optimizer(self) -> AdamW:
        t = self.config.training
        return AdamW(self.model.parameters(), lr=t.lr, weight_decay=t.weight_decay)

    def _loader(self, text: str, train: bool) -> DataLoader:
        return create_dataloader_v1(
            text,
            batch_size=self.config.data.batch_size,
            max_length=self.config.model.context_length,
            stride=self.config.stride,
            shuffle=train,
            drop_last=train,
            tokenizer=self.tokenizer,
            rng=self.data_rng,
        )

    def _n_tokens(self, what: str) -> int:
        text = self.train_text if what == "training" else self.val_text
        return len(self.tokenizer.encode(text, disallowed_special=()))

    @property
    def total_steps(self) -> int:
        """Updates from the first to the last."""
        t = self.config.training
        steps = t.epochs * -(-len(self.train_loader) // t.accumulate)
        return min(steps, t.max_steps) if t.max_steps else steps

    @property
    def schedule(self) -> Schedule:
        t = self.config.training
        if t.schedule == "flat":
            return Flat(t.lr)
        return WarmupCosine(t.lr, self.total_steps, min(t.warmup_steps, self.total_steps), minimum=t.min_lr)

    def steps(self) -> Iterator[Report]:
        """Train to the end, from wherever `progress` is; see training_steps."""
        t = self.config.training
        return training_steps(
            self.model,
            self.train_loader,
            self.val_loader,
            self.optimizer,
            self.device,
            num_epochs=t.epochs,
            eval_freq=t.eval_freq,
            eval_iter=t.eval_iter,
            max_steps=t.max_steps or None,
            schedule=self.schedule,
            max_norm=t.max_norm or None,
            accumulate=t.accumulate,
            progress=self.progress,
        )

    def begin_from(self, weights: GPTModel) -> None:
        """Start from a model's weights.  Raises InputError where they do not fit: see copy_weights."""
        copy_weights(weights, self.model)
        self.weights_sha256 = weights_hash(weights)

    # Its directory

    def save_settings(self, directory: Path) -> None:
        """Write what stays the same through the run."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.toml").write_text(with_absolute_paths(self.config).to_toml(), encoding="utf-8")
        facts = environment() | ({"weights_sha256": self.weights_sha256} if self.weights_sha256 else {})
        facts |= way_to_text(self.config, directory)
        (directory / "environment.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        save_tokenizer(self.tokenizer, directory / "tokenizer.json")

    def save_place_of_text(self, directory: Path) -> None:
        """Write where the text of a run that goes on is now; the settings stay those it began with."""
        config = self.config.changed(settings_in(directory / "config.toml") | {"data": self.config.data.data})
        (directory / "config.toml").write_text(with_absolute_paths(config).to_toml(), encoding="utf-8")
        path = directory / "environment.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps(facts | way_to_text(config, directory), indent=1), encoding="utf-8")

    def save(self, directory: Path) -> Path:
        """Write a checkpoint of this moment, and drop all but the last few."""
        state = {
            "progress": asdict(self.progress),
            "data_stream": self.data_rng.state(),
            "data_sha256": text_hash(self.text),
            "tokenizer_sha256": tokenizer_hash(self.tokenizer),
            "environment": environment(),
        }
        step = self.progress.global_step
        path = save_checkpoint(directory / "checkpoints" / f"step_{step}", self.model, self.optimizer, state)
        for older in checkpoints(directory)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(older)
        return path

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint of this run.  Raises InputError if the text or the tokenizer has changed since."""
        state = load_checkpoint(checkpoint, self.model, self.optimizer)
        if state["data_sha256"] != text_hash(self.text):
            raise InputError(f"resume: the text {self.config.data.data!r} has changed since {checkpoint} was written")
        if state["tokenizer_sha256"] != tokenizer_hash(self.tokenizer):
            raise InputError(f"resume: the tokenizer has changed since {checkpoint} was written")
        self.progress = Progress(**state["progress"])
        self.data_rng.set_state(state["data_stream"])


def streams(training: TrainingConfig) -> tuple[RandomStream, RandomStream]:
    """The random numbers of the model and of the data: streams of their own, or PyTorch's single one for both."""
    if training.random != "own":
        both = TorchStream(training.seed, "mcg31" if training.random == "torch-mcg31" else "mt19937")
        return both, both
    return Generator(training.seed, MODEL_STREAM), Generator(training.seed, DATA_STREAM)


def tokenizer_for(data: DataConfig, text: str) -> tiktoken.Encoding:
    """The tokenizer a configuration asks for; an own one is learned from the whole text."""
    if data.tokenizer == "own":
        return train_tokenizer(text, data.n_merges)
    return get_tokenizer(data.tokenizer)


def tokenizer_hash(tokenizer: tiktoken.Encoding) -> str:
    """A SHA-256 of what every token stands for."""
    return sha256(b"\0".join(tokenizer.decode_single_token_bytes(i) for i in range(tokenizer.n_vocab))).hexdigest()


def checkpoints(directory: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    found = (directory / "checkpoints").glob("step_*")
    return sorted((p for p in found if p.name[5:].isdigit()), key=lambda p: int(p.name[5:]))


def latest_checkpoint(directory: Path) -> Path:
    """A run's newest checkpoint.  Raises InputError if there is none."""
    found = checkpoints(directory)
    if not found:
        raise InputError(f"run: {directory} has no checkpoint; give a directory that `nanograd-gpt train` wrote")
    return found[-1]


def new_directory(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2 and so on if that is taken."""
    candidate, n = parent / name, 1
    while candidate.exists():
        n += 1
        candidate = parent / f"{name}-{n}"
    return candidate


def environment() -> dict[str, Any]:
    """What a result may depend on besides the configuration."""
    blas = [f"{i['internal_api']} {i['version']}, {i['num_threads']} threads" for i in _blas()]
    return {
        "nanograd_gpt": _version("nanograd-gpt"),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "cupy": getattr(sys.modules.get("cupy"), "__version__", None),
        "threads": n_threads(),
        "blas": blas,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def _blas() -> list[dict[str, Any]]:
    infos: list[dict[str, Any]] = with_blas_threads(threadpool_info)  # not while they are kept to one
    return [info for info in infos if info["user_api"] == "blas"]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None
