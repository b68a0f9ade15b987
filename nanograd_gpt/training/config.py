"""Settings of a run in three groups, presets, and config.toml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from ..arguments import as_python_scalar, not_allowed, shown
from ..documents import read_toml
from ..errors import InputError, did_you_mean
from ..files import UnreadableError
from ..gpt.config import PRESETS as MODELS
from ..gpt.config import GPTConfig, preset_name
from ..tokenizer.tokenizer import MAX_MERGES
from .synonyms import SYNONYMS

MAX_COUNT = 2**53  # of anything; floats are exact up to here
SCHEDULES = ["flat", "cosine", "appendix-d"]


def setting(default: Any, what: str) -> Any:
    """Create a dataclass field with its help text for the command line."""
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class DataConfig:
    """Settings of the text, the tokenizer, windows and batches."""

    data: str = setting("story", "'story' (bundled), 'tales' (generated), 'the-verdict' (downloaded), or a UTF-8 file")
    tokenizer: str = setting("own", "'own' (trained on the text), 'gpt2', or a tokenizer's file or directory")
    n_merges: int = setting(512, "BPE merges of an own tokenizer")
    train_ratio: float = setting(0.9, "fraction of the characters to train on")
    test_ratio: float = setting(0.0, "fraction held out at the end, for `evaluate --split test`")
    batch_size: int = setting(8, "windows per batch")
    stride: int = setting(0, "tokens between the starts of windows; 0: the context length, so none overlap")

    def __post_init__(self) -> None:
        _coerce_fields(self)
        _require("n_merges", self.n_merges, 0 <= self.n_merges <= MAX_MERGES, f"a number 0 .. {MAX_MERGES}")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "a number >= 1")
        _require("stride", self.stride, self.stride >= 0, "a number >= 0")
        _require("train_ratio", self.train_ratio, 0 < self.train_ratio < 1, "a number in (0, 1)")
        _require(
            "test_ratio",
            self.test_ratio,
            0 <= self.test_ratio < 1 - self.train_ratio,
            "a number in [0, 1 - train_ratio)",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the optimization, of evaluations, samples and checkpoints."""

    epochs: int = setting(10, "passes over the training text")
    max_steps: int = setting(0, "stop after this many updates; 0: no limit")
    lr: float = setting(4e-4, "learning rate (its peak, with a schedule)")
    schedule: str = setting(
        "flat", "'flat'; 'cosine' after a linear warm-up; 'appendix-d': the book's, which clips only after the warm-up"
    )
    warmup_steps: int = setting(0, "updates of linear warm-up, if the schedule is not flat")
    decay_steps: int = setting(0, "updates until the rate reaches min_lr and stays there; 0: the whole run")
    initial_lr: float = setting(0.0, "learning rate at the start of the warm-up")
    min_lr: float = setting(0.0, "learning rate at the end, if the schedule is not flat")
    weight_decay: float = setting(0.1, "AdamW's weight decay")
    decay: str = setting(
        "all", "apply weight decay to 'all' parameters, or only to 'matrices' (weights and embeddings)"
    )
    max_norm: float = setting(0.0, "clip gradients to this global norm; 0: no clipping")
    accumulate: int = setting(1, "batches per update (gradient accumulation)")
    eval_freq: int = setting(5, "updates between evaluations")
    eval_iter: int = setting(5, "batches of each loader per evaluation")
    watch_every: int = setting(20, "updates between measurements of each layer, for the report; 0: none")
    sample_every: int = setting(1, "epochs between samples")
    checkpoint_every: int = setting(0, "updates between checkpoints; 0: only by the clock and at the end")
    checkpoint_minutes: float = setting(1.0, "minutes between checkpoints, more if saving takes long; 0: no limit")
    on_nonfinite: str = setting("stop", "'stop', or 'skip' an update whose loss or gradient is nan or infinite")
    keep: int = setting(2, "checkpoints kept, the newest; the weights with the lowest validation loss always are")
    prompt: str = setting("Every effort moves you", "text that samples continue")
    weights: str = setting("", "weights to start from; empty: random initialisation")
    seed: int = setting(123, "seed of all random streams")
    random: str = setting(
        "own", "'own'; 'torch': PyTorch's on the CPU, for the book's numbers; 'torch-mcg31': its MKL build's on Intel"
    )

    def __post_init__(self) -> None:
        _coerce_fields(self)
        for name in ("epochs", "accumulate", "eval_freq", "eval_iter", "sample_every", "keep"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "a number >= 1")
        for name in ("max_steps", "warmup_steps", "decay_steps", "watch_every", "checkpoint_every", "seed"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "a number >= 0")
        for name in ("weight_decay", "max_norm", "initial_lr", "min_lr", "checkpoint_minutes"):
            value = getattr(self, name)
            _require(name, value, value >= 0 and isfinite(value), "a finite number >= 0")
        _require("lr", self.lr, self.lr > 0 and isfinite(self.lr), "a finite number > 0")
        for name, known in (
            ("decay", ["all", "matrices"]),
            ("schedule", SCHEDULES),
            ("on_nonfinite", ["stop", "skip"]),
            ("random", ["own", "torch", "torch-mcg31"]),
        ):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}: {value!r} is unknown{did_you_mean(value, known)}")
        if self.schedule != "flat" and 0 < self.decay_steps < self.warmup_steps:
            raise InputError(
                f"decay_steps: {self.decay_steps} is less than warmup_steps = {self.warmup_steps}, which it includes; "
                "choose more, or 0 for the whole run"
            )
        for name in ("decay_steps", "initial_lr"):
            if self.schedule == "flat" and (value := getattr(self, name)):
                raise InputError(
                    f"{name}: {value} has no effect with the schedule 'flat'; leave it out, or choose 'cosine'"
                )


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run."""

    model: GPTConfig
    data: DataConfig
    training: TrainingConfig

    @property
    def stride(self) -> int:
        return self.data.stride or self.model.context_length

    def groups(self) -> dict[str, GPTConfig | DataConfig | TrainingConfig]:
        return {"model": self.model, "data": self.data, "training": self.training}

    def flat(self) -> dict[str, Any]:
        """Return all settings by name."""
        return {name: value for group in self.groups().values() for name, value in asdict(group).items()}

    def replace(self, settings: Mapping[str, Any]) -> RunConfig:
        """Return a copy with some settings replaced, by name across groups.  Raises InputError for unknown names."""
        owner = {f.name: name for name, group in self.groups().items() for f in fields(group)}
        values = {name: asdict(group) for name, group in self.groups().items()}
        for name, value in settings.items():
            if name not in owner:
                hint = did_you_mean(SYNONYMS.get(name, name), list(owner)) or "; the config.toml of a run lists all"
                raise InputError(f"setting: {name!r} is unknown{hint}")
            values[owner[name]][name] = _coerced(name, value, values[owner[name]][name])
        return RunConfig(
            GPTConfig(**values["model"]), DataConfig(**values["data"]), TrainingConfig(**values["training"])
        )

    def to_toml(self) -> str:
        lines = []
        for name, group in self.groups().items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in asdict(group).items()), ""]
        return "\n".join(lines)


def from_toml(path: Path) -> dict[str, Any]:
    """Read the settings from a TOML file, with or without group tables.  Raises InputError if it cannot be read."""
    try:
        content = read_toml(path)
    except UnreadableError as error:
        raise InputError(f"config: {path} cannot be read ({error}); give a TOML file of settings") from None
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= value if isinstance(value, dict) else {name: value}
    return settings


def preset(name: str) -> RunConfig:
    """Return a preset by one of its names.  Raises InputError, with a suggestion, for an unknown one."""
    name = preset_name(name)
    if name == "tiny":
        training = TrainingConfig(
            epochs=20,
            lr=2e-3,
            schedule="cosine",
            warmup_steps=40,
            min_lr=1e-4,
            max_norm=1.0,
            eval_freq=20,
            sample_every=4,
        )
        return RunConfig(MODELS["tiny"], DataConfig(), training)
    if name == "tales":  # a window is a tale: see tales/generator.py
        training = TrainingConfig(
            epochs=6,
            lr=3e-3,
            schedule="cosine",
            warmup_steps=200,
            min_lr=1e-4,
            max_norm=1.0,
            eval_freq=250,
            prompt="Once",
        )
        return RunConfig(MODELS["tales"], DataConfig(data="tales"), training)
    return RunConfig(MODELS[name], DataConfig(tokenizer="gpt2", batch_size=2), TrainingConfig())


def book() -> RunConfig:
    """Return the book's training run: its model, text, settings and random numbers."""
    return preset("gpt2-124m").replace({"data": "the-verdict", "random": "torch"})


def fine_tuning() -> RunConfig:
    """Return the preset for fine-tuning: a low rate, few epochs.  Sizes and tokenizer come from the weights."""
    return preset("gpt2-124m").replace({"lr": 5e-5, "epochs": 2})


def _require(name: str, value: float, allowed: bool, what: str) -> None:
    if not allowed:
        raise InputError(f"{name}: {value} is not allowed; choose {what}")


def _coerce_fields(group: DataConfig | TrainingConfig) -> None:
    for f in fields(group):
        object.__setattr__(group, f.name, _coerced(f.name, getattr(group, f.name), f.default))


def _coerced(name: str, value: Any, like: Any) -> Any:
    """Convert NumPy's numbers to Python's, and integers to floats; anything else must have the type of `like`."""
    value = as_python_scalar(value)
    if isinstance(like, float) and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(like):
        raise InputError(f"{name}: {shown(value)} is not allowed; expected a value like {like!r}")
    if type(value) is int and abs(value) > MAX_COUNT and name != "seed":
        raise not_allowed(name, value, f"a number up to {MAX_COUNT}")
    if isinstance(value, str) and not _is_unicode(value):
        raise InputError(f"{name}: {shown(value)} is not UTF-8 text; give it in UTF-8")
    return value


def _is_unicode(text: str) -> bool:
    """Tell whether a text encodes as UTF-8; undecodable bytes in an argument arrive as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML requires DEL to be escaped too
    return repr(value)
