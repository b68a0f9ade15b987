"""A training run: everything built from its configuration, and the files it writes (see run_directory.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import tiktoken

from ..backend.precision import precision
from ..backend.select import Device
from ..environment import environment
from ..errors import InputError, NonFiniteError, counted
from ..files import make_directory, write_whole
from ..gpt.model import GPTModel
from ..nn.param_groups import decay_groups
from ..optim import AdamW
from ..parallel.ranks import ALONE, Command, Ranks, check_divisible
from ..rng import Generator, RandomStream, TorchStream
from ..tokenizer.encoding import encode, token_bytes
from ..tokenizer.tokenizer import get_tokenizer, save_tokenizer, train_tokenizer
from .background import Background
from .best_weights import BestWeights
from .checkpoint import (
    checkpoint_metadata,
    load_checkpoint,
    moments_of,
    seal_checkpoint,
    write_checkpoint,
)
from .config import DataConfig, RunConfig, TrainingConfig
from .corpus import load_text, split_text
from .data import DataLoader, create_dataloader_v1
from .disk_space import check_disk_space
from .finite import not_finite_in_checkpoint
from .loop import Progress, StepResult, check_sample_prompt, training_steps
from .loss import Evaluation, evaluate_model
from .replay import Note
from .run_directory import best_checkpoint, checkpoint_path, checkpoints, delete_needless
from .run_state import RunState, run_state, saved_progress
from .run_text import absolute_paths, read_environment, relative_data_path, text_hash
from .schedule import AppendixD, Flat, Schedule, WarmupCosine
from .weights import transfer_weights, weights_hash

MODEL_STREAM, DATA_STREAM = 0, 1  # separate random streams, so that draws from one do not shift the other


class Run:
    """A training run built from its configuration, ready to start.

    The vocabulary is the tokenizer's, padded to vocab_size if that is given; padding ids are never generated.
    `text` replaces what config.data.data names.  `ranks` take their rows of each batch.
    Raises InputError for a text too short for one training and one validation batch, for a vocab_size below the
    tokenizer's, and for a batch size that the ranks cannot divide.
    """

    def __init__(
        self,
        config: RunConfig,
        device: Device,
        tokenizer: tiktoken.Encoding | None = None,
        vocab_size: int | None = None,
        text: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        check_divisible(config.data.batch_size, ranks.size)
        self.ranks = ranks
        self.text = load_text(config.data.data) if text is None else text
        self.tokenizer = tokenizer or tokenizer_for(config.data, self.text)
        n_vocab = self.tokenizer.n_vocab
        if vocab_size is not None and vocab_size < n_vocab:
            raise InputError(
                f"vocab_size: {vocab_size} is less than the tokenizer's {n_vocab}; leave it out, or give that or more, "
                f"such as {-(-n_vocab // 64) * 64}, a multiple of 64"
            )
        self.config = config = config.replace({"vocab_size": vocab_size or n_vocab})
        self.paths = absolute_paths(config)  # before the working directory or the files may change
        self.device = device
        self.train_text, self.val_text, self.test_text = split_text(
            self.text, config.data.train_ratio, config.data.test_ratio
        )
        self.model_rng, self.data_rng = streams(config.training)
        self.model_rng.part = ranks.part
        self.train_loader = self._loader(self.train_text, train=True)
        self.val_loader = self._loader(self.val_text, train=False)
        for what, text, loader in (
            ("training", self.train_text, self.train_loader),
            ("validation", self.val_text, self.val_loader),
        ):
            if len(loader) == 0:
                n_tokens = counted(len(encode(text, self.tokenizer)), "token")
                raise InputError(
                    f"data: the {what} part of {config.data.data!r} has {n_tokens}, too few for "
                    f"a batch of windows of {config.model.context_length}; use more text, or a smaller "
                    "--context-length or --batch-size"
                )
        check_sample_prompt(self.tokenizer, config.model.vocab_size, config.training.prompt)
        self.progress = Progress()
        self._saved: Path | None = None  # the checkpoint of this very moment, if there is one
        self._best = BestWeights()
        self.saving_seconds = 0.0  # of the last checkpoint, without what is done beside the training
        self.weights_sha256: str | None = None  # of the initial weights, if they were loaded

    @cached_property
    def model(self) -> GPTModel:
        """The model, built on first use, so that a dry run allocates none."""
        return GPTModel(self.config.model, rng=self.model_rng).to(self.device)

    @cached_property
    def optimizer(self) -> AdamW:
        t = self.config.training
        if t.decay == "matrices":
            return AdamW(decay_groups(self.model, t.weight_decay), lr=t.lr)
        return AdamW(self.model.parameters(), lr=t.lr, weight_decay=t.weight_decay)

    def _loader(self, text: str, train: bool) -> DataLoader:
        loader = create_dataloader_v1(
            text,
            batch_size=self.config.data.batch_size,
            max_length=self.config.model.context_length,
            stride=self.config.stride,
            shuffle=train,
            drop_last=train,
            tokenizer=self.tokenizer,
            rng=self.data_rng,
        )
        loader.part = self.ranks.part
        return loader

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates in an epoch, the last of which may take fewer batches."""
        return -(-len(self.train_loader) // self.config.training.accumulate)

    @property
    def total_steps(self) -> int:
        """Number of updates in the whole run."""
        t = self.config.training
        steps = t.epochs * self.steps_per_epoch
        return min(steps, t.max_steps) if t.max_steps else steps

    @property
    def schedule(self) -> Schedule:
        """Learning rate schedule.  A cosine ends after decay_steps, or with the run."""
        t = self.config.training
        if t.schedule == "flat":
            return Flat(t.lr)
        rule = AppendixD if t.schedule == "appendix-d" else WarmupCosine
        steps = t.decay_steps or self.total_steps
        return rule(t.lr, steps, min(t.warmup_steps, steps), initial=t.initial_lr, minimum=t.min_lr)

    def change_length(self, settings: Mapping[str, int]) -> None:
        """Change epochs, max_steps or decay_steps; keeps the learning rate schedule unless decay_steps is given.

        The rate never jumps unasked: a run made longer stays at min_lr after its cosine, as nanoGPT's does after
        lr_decay_iters.  Hugging Face's Trainer instead recomputes the schedule for the new length.
        A run that was to end within its warm-up has no decay planned: made longer, its warm-up ends as planned, and a
        cosine over the new length follows.  Raises InputError if the rate would stay at 0.
        """
        plan, planned_steps = self.schedule, self.total_steps
        self.config = self.config.replace(settings)
        if not isinstance(plan, WarmupCosine) or self.total_steps == planned_steps or "decay_steps" in settings:
            return
        if plan.warmup_steps == plan.total_steps < self.total_steps:  # all warm-up, so no decay to keep
            self.config = self.config.replace({"warmup_steps": plan.warmup_steps})
            return
        if plan.minimum == 0 and self.total_steps > plan.total_steps:
            raise InputError(
                f"resume: the learning rate falls to min_lr = 0 at update {plan.total_steps}, so updates up to "
                f"{self.total_steps} would change nothing; add --decay-steps 0 to stretch the decay over the whole run"
            )
        self.config = self.config.replace({"warmup_steps": plan.warmup_steps, "decay_steps": plan.total_steps})

    def steps(self, replay_note: Note | None = None) -> Iterator[StepResult]:
        """Train from `progress` to the end; see training_steps."""
        t, schedule = self.config.training, self.schedule
        steps = training_steps(
            self.model,
            self.train_loader,
            self.val_loader,
            self.optimizer,
            self.device,
            num_epochs=t.epochs,
            eval_freq=t.eval_freq,
            eval_iter=t.eval_iter,
            watch_every=t.watch_every if self.ranks.rank == 0 else 0,
            max_steps=t.max_steps or None,
            schedule=schedule,
            max_norm=t.max_norm or None,
            clip_from=schedule.first_clipped if isinstance(schedule, AppendixD) else 0,
            accumulate=t.accumulate,
            progress=self.progress,
            skip_nonfinite=t.on_nonfinite == "skip",
            replay_note=replay_note,
            ranks=self.ranks,
        )
        return self.ranks.led(steps) if self.ranks.rank == 0 else steps

    @property
    def evaluates_at_end(self) -> bool:
        """Whether an evaluation follows the last update; not with PyTorch's random numbers, for the book's log."""
        return self.config.training.random == "own"

    def evaluate(self) -> Evaluation:
        """Evaluate after the last update, and note the loss; random streams are left as they were.

        A run that goes on later makes the same updates as one that was never evaluated here.
        """
        self.ranks.lead(Command.EVALUATE)
        stream, evaluation = self.data_rng.state(), self._evaluated()
        self.data_rng.set_state(stream)
        self.progress.note_best(self.progress.global_step, evaluation.val_loss)
        return evaluation

    def evaluate_weights(self) -> Evaluation:
        """Evaluate the weights that training starts from."""
        self.ranks.lead(Command.EVALUATE_WEIGHTS)
        return self._evaluated()

    def _evaluated(self) -> Evaluation:
        loaders, eval_iter = (self.train_loader, self.val_loader), self.config.training.eval_iter
        return evaluate_model(self.model, *loaders, self.device, eval_iter, ranks=self.ranks)

    def init_from(self, weights: GPTModel) -> None:
        """Start from a model's weights.  Raises InputError if sizes differ, and for weights that are not finite."""
        if broken := not_finite_in_checkpoint(weights):
            raise InputError(f"weights: {self.config.training.weights}: {broken}; use others")
        transfer_weights(weights, self.model)
        self.weights_sha256 = weights_hash(weights)

    # --- files in the run's directory

    def save_settings(self, directory: Path) -> None:
        """Write config.toml, environment.json and tokenizer.json; only the run's length may change later."""
        make_directory(directory)
        self.save_config(directory)
        metadata = environment() | ({"weights_sha256": self.weights_sha256} if self.weights_sha256 else {})
        metadata |= relative_data_path(self.config, directory)
        write_whole(directory / "environment.json", json.dumps(metadata, indent=1).encode())
        save_tokenizer(self.tokenizer, directory / "tokenizer.json")

    def save_config(self, directory: Path) -> None:
        """Write config.toml atomically, with the settings that the next checkpoint will have."""
        write_whole(directory / "config.toml", self.config.replace(self.paths).to_toml().encode())

    def save_data_path(self, directory: Path) -> None:
        """Record the text's present path, relative to a resumed run."""
        metadata = read_environment(directory) | relative_data_path(self.config, directory)
        write_whole(directory / "environment.json", json.dumps(metadata, indent=1).encode())

    def preflight(self, directory: Path) -> None:
        """Check before training that a checkpoint can be written: its metadata is serialisable and fits on the disk.

        Raises InputError or RunError otherwise.
        """
        checkpoint_metadata(self.model, self.optimizer, self._state())
        check_disk_space(directory, self.config, self.total_steps)

    def _state(self) -> dict[str, Any]:
        """The run's own part of a checkpoint's state.json."""
        settings = self.config.replace(self.paths)
        return {
            "settings": {"data": asdict(settings.data), "training": asdict(settings.training)},
            "progress": asdict(self.progress),
            "data_stream": self.data_rng.state(),
            "data_sha256": text_hash(self.text),
            "tokenizer_sha256": tokenizer_hash(self.tokenizer),
            "environment": self.environment(),
        }

    def environment(self) -> dict[str, Any]:
        """The environment of the updates from here on."""
        return environment() | {"device": self.device, "precision": precision(), "ranks": self.ranks.size}

    def save(self, directory: Path, beside: Background | None = None, note: Note | None = None) -> Path:
        """Write a checkpoint, unless it is there already, and delete the oldest beyond the number to keep.

        The best weights that are not written yet go first.  A checkpoint of a later update is deleted too: it belongs
        to a course that this run has left, by being resumed from an earlier checkpoint.
        beside: where the files are hashed and flushed, and old ones deleted, while training goes on [here, at once]
        note: told why an old one cannot be deleted, which then stays [None: an error]
        """
        begun = perf_counter()
        if beside is not None:
            beside.wait()  # for an earlier checkpoint
        step = self.progress.global_step
        path = checkpoint_path(directory, step)
        if broken := not_finite_in_checkpoint(self.model, self.optimizer):
            last = f"; the last one is {found[-1]}" if (found := checkpoints(directory)) else ""
            raise NonFiniteError(f"training: after step {step}, {broken}, so no checkpoint is written{last}")
        written = self._write_best(directory)
        if path != self._saved or not path.is_dir():
            with self.ranks.whole_moments(self.optimizer):
                metadata = checkpoint_metadata(self.model, self.optimizer, self._state())
                moments = moments_of(self.optimizer, self.model)
                write_checkpoint(path, metadata, self.config.model, self.model.state_dict(), moments)
            written, self._saved = [*written, path], path
        seal = partial(self._seal, directory, written, step, note)
        if beside is None:
            seal()
        else:
            beside.start(seal)
        self.saving_seconds = perf_counter() - begun
        return path

    def _seal(self, directory: Path, written: list[Path], step: int, note: Note | None) -> None:
        for path in written:
            seal_checkpoint(path)
        delete_needless(directory, step, self.config.training.keep, note)

    def keep_best(self) -> None:
        """Keep the present weights as those with the lowest validation loss so far, to be written when saving."""
        self._best.keep(self.model, checkpoint_metadata(self.model, None, self._state()))

    def save_best(self, directory: Path) -> None:
        """Write the weights alone that keep_best kept, unless they are on the disk."""
        for path in self._write_best(directory):
            seal_checkpoint(path)

    def _write_best(self, directory: Path) -> list[Path]:
        if (metadata := self._best.metadata) is None:
            return []
        path = best_checkpoint(directory)
        write_checkpoint(path, metadata, self.config.model, self._best.arrays)
        self._best.metadata = None
        return [path]

    def load(self, checkpoint: Path, changed: bool = False) -> None:
        """Resume from a checkpoint of this run.  Raises InputError as check_resumable does.

        changed: settings or text can differ from the checkpoint's, so that the next save writes it anew.
        """
        state = run_state(checkpoint, load_checkpoint(checkpoint, self.model, self.optimizer))
        self.check_resumable(checkpoint, state, any_text=changed)
        self.data_rng.set_state(state.data_stream)
        self.progress, self._saved = saved_progress(checkpoint, state), None if changed else checkpoint

    def check_resumable(self, checkpoint: Path, state: RunState, any_text: bool = False) -> None:
        """Raise InputError if the text or the tokenizer has changed since the checkpoint, or its position cannot be.

        any_text: accept a text that has changed.
        """
        if not any_text and state.data_sha256 != text_hash(self.text):
            raise InputError(
                f"resume: the text {self.config.data.data!r} has changed since {checkpoint} was written; restore it, "
                "or add --allow-mismatch to go on with it as it is"
            )
        if state.tokenizer_sha256 != tokenizer_hash(self.tokenizer):
            raise InputError(
                f"resume: the tokenizer, of {counted(self.tokenizer.n_vocab, 'token')}, has changed since {checkpoint} "
                "was written (its SHA-256 differs); put back the run's tokenizer.json, since the weights mean nothing "
                "with another"
            )
        if state.progress.batch >= len(self.train_loader):
            raise InputError(
                f"resume: {checkpoint} has done {state.progress.batch} batches of its epoch, which has "
                f"{len(self.train_loader)}; use another checkpoint"
            )
        if state.progress.epoch_stream is not None:
            now = self.data_rng.state()
            self.data_rng.set_state(state.progress.epoch_stream)  # to check it now, not in the first update
            self.data_rng.set_state(now)


def streams(training: TrainingConfig) -> tuple[RandomStream, RandomStream]:
    """Create the random streams of model and data: one each, or a single shared one to reproduce PyTorch's."""
    if training.random != "own":
        both = TorchStream(training.seed, "mcg31" if training.random == "torch-mcg31" else "mt19937")
        return both, both
    return Generator(training.seed, MODEL_STREAM), Generator(training.seed, DATA_STREAM)


def tokenizer_for(data: DataConfig, text: str) -> tiktoken.Encoding:
    """Load the configured tokenizer, or train one on the whole text for "own"."""
    if data.tokenizer == "own":
        return train_tokenizer(text, data.n_merges)
    return get_tokenizer(data.tokenizer)


def tokenizer_hash(tokenizer: tiktoken.Encoding) -> str:
    """Return a SHA-256 over the bytes of all tokens; an unused id counts as empty."""
    tokens = token_bytes(tokenizer)
    return sha256(b"\0".join(tokens.get(i, b"") for i in range(tokenizer.n_vocab))).hexdigest()
