"""A run: everything made from its configuration, and what it writes into its directory (see run_directory.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import tiktoken

from ..backend.select import Device
from ..environment import environment
from ..errors import InputError, RunError
from ..files import write_whole
from ..gpt.model import GPTModel
from ..nn.param_groups import decay_groups
from ..optim import AdamW
from ..rng import Generator, RandomStream, TorchStream
from ..tokenizer.encoding import encode, token_bytes
from ..tokenizer.tokenizer import get_tokenizer, save_tokenizer, train_tokenizer
from .checkpoint import checkpoint_metadata, load_checkpoint, save_checkpoint
from .config import DataConfig, RunConfig, TrainingConfig, from_toml, preset
from .corpus import load_text, split_text
from .data import DataLoader, create_dataloader_v1
from .loop import Progress, StepResult, check_sample_prompt, training_steps
from .run_directory import checkpoints
from .run_text import relative_data_path, text_hash, with_absolute_paths
from .schedule import AppendixD, Flat, Schedule, WarmupCosine
from .weights import transfer_weights, weights_hash

MODEL_STREAM, DATA_STREAM = 0, 1  # of random numbers, so that one does not shift the other
MAX_CHECKPOINTS = 2


class Run:
    """A training from its configuration, ready to start.

    The vocabulary is the tokenizer's, or vocab_size: then padded to it, with ids that are never chosen.
    Raises InputError where the text is too short for one window of training and one of validation, or vocab_size
    smaller than the tokenizer's.
    """

    def __init__(
        self,
        config: RunConfig,
        device: Device,
        tokenizer: tiktoken.Encoding | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self.text = load_text(config.data.data)
        self.tokenizer = tokenizer or tokenizer_for(config.data, self.text)
        n_vocab = self.tokenizer.n_vocab
        if vocab_size is not None and vocab_size < n_vocab:
            raise InputError(
                f"vocab_size: {vocab_size} is less than the tokenizer's {n_vocab}; leave it out, or give that or more, "
                f"such as {-(-n_vocab // 64) * 64}, a multiple of 64"
            )
        self.config = config = config.replace({"vocab_size": vocab_size or n_vocab})
        self.device = device
        self.train_text, self.val_text, self.test_text = split_text(
            self.text, config.data.train_ratio, config.data.test_ratio
        )
        self.model_rng, self.data_rng = streams(config.training)
        self.train_loader = self._loader(self.train_text, train=True)
        self.val_loader = self._loader(self.val_text, train=False)
        for what, text, loader in (
            ("training", self.train_text, self.train_loader),
            ("validation", self.val_text, self.val_loader),
        ):
            if len(loader) == 0:
                n_tokens = len(encode(text, self.tokenizer))
                raise InputError(
                    f"data: the {what} part of {config.data.data!r} has {n_tokens} tokens, too few for "
                    f"a batch of windows of {config.model.context_length}; use more text, or a smaller "
                    "--context-length or --batch-size"
                )
        check_sample_prompt(self.tokenizer, config.model.vocab_size, config.training.prompt)
        self.progress = Progress()
        self.weights_sha256: str | None = None  # of what it began from, if not from random numbers

    @cached_property
    def model(self) -> GPTModel:
        """Made when it is first asked for: a dry run never does."""
        return GPTModel(self.config.model, rng=self.model_rng).to(self.device)

    @cached_property
    def optimizer(self) -> AdamW:
        t = self.config.training
        if t.decay == "matrices":
            return AdamW(decay_groups(self.model, t.weight_decay), lr=t.lr)
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

    @property
    def total_steps(self) -> int:
        """Updates from the first to the last."""
        t = self.config.training
        steps = t.epochs * -(-len(self.train_loader) // t.accumulate)
        return min(steps, t.max_steps) if t.max_steps else steps

    @property
    def schedule(self) -> Schedule:
        """The learning rate at each update.  A cosine ends after decay_steps, or with the run."""
        t = self.config.training
        if t.schedule == "flat":
            return Flat(t.lr)
        rule = AppendixD if t.schedule == "appendix-d" else WarmupCosine
        steps = t.decay_steps or self.total_steps
        return rule(t.lr, steps, min(t.warmup_steps, steps), initial=t.initial_lr, minimum=t.min_lr)

    def change_length(self, settings: Mapping[str, int]) -> None:
        """Change epochs, max_steps or decay_steps; the learning rate keeps to its plan unless decay_steps are given.

        So the rate never jumps unasked: a run made longer stays at min_lr once its cosine has ended, as nanoGPT's does
        after lr_decay_iters; Hugging Face's Trainer computes the rate anew for the new length.
        A run that was to end within its warm-up is planned anew.  Raises InputError where the rate would stay at 0.
        """
        plan, planned_steps = self.schedule, self.total_steps
        self.config = self.config.replace(settings)
        if not isinstance(plan, WarmupCosine) or self.total_steps == planned_steps or "decay_steps" in settings:
            return
        if plan.warmup_steps == plan.total_steps:  # all warm-up: there is no decay to keep
            return
        if plan.minimum == 0 and self.total_steps > plan.total_steps:
            raise InputError(
                f"resume: the learning rate falls to min_lr = 0 at update {plan.total_steps}, and nothing is learned "
                f"from there to update {self.total_steps}; add --decay-steps 0 to stretch its fall over the whole run"
            )
        self.config = self.config.replace({"decay_steps": plan.total_steps})

    def steps(self) -> Iterator[StepResult]:
        """Train to the end, from wherever `progress` is; see training_steps."""
        t, schedule = self.config.training, self.schedule
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
            schedule=schedule,
            max_norm=t.max_norm or None,
            clip_from=schedule.first_clipped if isinstance(schedule, AppendixD) else 0,
            accumulate=t.accumulate,
            progress=self.progress,
        )

    def init_from(self, weights: GPTModel) -> None:
        """Start from a model's weights.  Raises InputError where they do not fit: see transfer_weights."""
        transfer_weights(weights, self.model)
        self.weights_sha256 = weights_hash(weights)

    # Its directory

    def save_settings(self, directory: Path) -> None:
        """Write what stays the same through the run, but for its length: see save_config."""
        directory.mkdir(parents=True, exist_ok=True)
        self.save_config(directory)
        facts = environment() | ({"weights_sha256": self.weights_sha256} if self.weights_sha256 else {})
        facts |= relative_data_path(self.config, directory)
        write_whole(directory / "environment.json", json.dumps(facts, indent=1).encode())
        save_tokenizer(self.tokenizer, directory / "tokenizer.json")

    def save_config(self, directory: Path, config: RunConfig | None = None) -> None:
        """Write config.toml, whole or not at all: the run's configuration, or another."""
        write_whole(directory / "config.toml", with_absolute_paths(config or self.config).to_toml().encode())

    def save_data_path(self, directory: Path) -> None:
        """Write where the text of a run that goes on is now; the settings stay those it began with."""
        written = from_toml(directory / "config.toml")  # over the preset, as a resumed run reads it
        config = preset("tiny").replace(written | {"data": self.config.data.data})
        self.save_config(directory, config)
        path = directory / "environment.json"
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_whole(path, json.dumps(facts | relative_data_path(config, directory), indent=1).encode())

    def preflight(self, directory: Path) -> None:
        """Try what comes after the last update, so that nothing fails there: all that a checkpoint says besides arrays.

        Raises RunError where the disk has no room for the checkpoints.
        """
        checkpoint_metadata(self.model, self.optimizer, self._state())
        parent = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.is_dir())
        needed, disk = self._bytes_needed(directory), shutil.disk_usage(parent)
        if disk.total and disk.free < needed:  # a disk that is no disk says 0 of both
            raise RunError(
                f"training: checkpoints in {directory} will take {needed:,} bytes, its disk has {disk.free:,} left; "
                "make room there, or give another directory with --out"
            )

    def _bytes_needed(self, directory: Path) -> int:
        """Weights and AdamW's two moments, in the checkpoints that come before an older one goes, at least one."""
        several = 0 < self.config.training.checkpoint_every < self.total_steps
        n = max(1, (MAX_CHECKPOINTS + 1 if several else 1) - len(checkpoints(directory)))
        return 3 * sum(p.data.nbytes for p in self.model.parameters()) * n

    def _state(self) -> dict[str, Any]:
        """A checkpoint's contents besides model and optimizer."""
        return {
            "progress": asdict(self.progress),
            "data_stream": self.data_rng.state(),
            "data_sha256": text_hash(self.text),
            "tokenizer_sha256": tokenizer_hash(self.tokenizer),
            "environment": environment(),
        }

    def save(self, directory: Path) -> Path:
        """Write a checkpoint of this moment, and drop all but the last few."""
        step, state = self.progress.global_step, self._state()
        path = save_checkpoint(directory / "checkpoints" / f"step_{step}", self.model, self.optimizer, state)
        for older in checkpoints(directory)[:-MAX_CHECKPOINTS]:
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
    """A SHA-256 of what every token stands for; a gap in the ids for nothing."""
    tokens = token_bytes(tokenizer)
    return sha256(b"\0".join(tokens.get(i, b"") for i in range(tokenizer.n_vocab))).hexdigest()
