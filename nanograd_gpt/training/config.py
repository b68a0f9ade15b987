"""Everything that decides a run, in three groups of settings; presets; and the config.toml that keeps them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from ..arguments import as_python_scalar
from ..errors import InputError, did_you_mean
from ..gpt.config import PRESETS as MODELS
from ..gpt.config import GPTConfig

SCHEDULES = ["flat", "cosine", "appendix-d"]


def setting(default: Any, what: str) -> Any:
    """A dataclass field with the line that the command line's help shows."""
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class DataConfig:
    """The text, and how it is cut into tokens, windows and batches."""

    data: str = setting("story", "'story' (ships with us), 'the-verdict' (downloaded), or a UTF-8 file")
    tokenizer: str = setting("own", "'own' (learned from the text), 'gpt2', or a tokenizer's file or directory")
    n_merges: int = setting(512, "merges that an own tokenizer learns")
    train_ratio: float = setting(0.9, "share of the characters to train on")
    test_ratio: float = setting(0.0, "share held out at the end, for `evaluate --split test`")
    batch_size: int = setting(8, "windows a batch")
    stride: int = setting(0, "tokens between the starts of windows; 0: the context length, so none overlap")

    def __post_init__(self) -> None:
        _own_types(self)
        _require("n_merges", self.n_merges, self.n_merges >= 0, ">= 0")
        _require("batch_size", self.batch_size, self.batch_size >= 1, ">= 1")
        _require("stride", self.stride, self.stride >= 0, ">= 0")
        _require("train_ratio", self.train_ratio, 0 < self.train_ratio < 1, "in (0, 1)")
        _require("test_ratio", self.test_ratio, 0 <= self.test_ratio < 1 - self.train_ratio, "in [0, 1 - train_ratio)")


@dataclass(frozen=True)
class TrainingConfig:
    """The course of the training."""

    epochs: int = setting(10, "passes over the training text")
    max_steps: int = setting(0, "stop after so many updates; 0: no limit")
    lr: float = setting(4e-4, "learning rate (its peak, with a schedule)")
    schedule: str = setting(
        "flat", "'flat'; 'cosine' after a linear warm-up; 'appendix-d': the book's, which clips only after the warm-up"
    )
    warmup_steps: int = setting(0, "updates of linear warm-up, if the schedule is not flat")
    decay_steps: int = setting(0, "updates until the rate is down at min_lr, where it stays; 0: the whole run")
    initial_lr: float = setting(0.0, "learning rate that the warm-up starts from")
    min_lr: float = setting(0.0, "learning rate at the end, if the schedule is not flat")
    weight_decay: float = setting(0.1, "AdamW's decay")
    decay: str = setting("all", "what decays: 'all' parameters, or 'matrices' (embeddings too), not biases and norms")
    max_norm: float = setting(0.0, "clip gradients to this global norm; 0: no clipping")
    accumulate: int = setting(1, "batches an update")
    eval_freq: int = setting(5, "updates from one evaluation to the next")
    eval_iter: int = setting(5, "batches of each loader an evaluation looks at")
    sample_every: int = setting(1, "epochs from one sample to the next")
    checkpoint_every: int = setting(0, "updates from one checkpoint to the next; 0: at the end alone")
    prompt: str = setting("Every effort moves you", "what samples start from")
    weights: str = setting("", "what to start from; none: random numbers")
    seed: int = setting(123, "of every stream of random numbers")
    random: str = setting(
        "own", "'own'; 'torch': PyTorch's on the CPU, for the book's numbers; 'torch-mcg31': its MKL build's on Intel"
    )

    def __post_init__(self) -> None:
        _own_types(self)
        for name in ("epochs", "accumulate", "eval_freq", "eval_iter", "sample_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, ">= 1")
        for name in ("max_steps", "warmup_steps", "decay_steps", "checkpoint_every", "seed"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, ">= 0")
        for name in ("weight_decay", "max_norm", "initial_lr", "min_lr"):
            value = getattr(self, name)
            _require(name, value, value >= 0 and isfinite(value), "finite and >= 0")
        _require("lr", self.lr, self.lr > 0 and isfinite(self.lr), "finite and > 0")
        for name, known in (
            ("decay", ["all", "matrices"]),
            ("schedule", SCHEDULES),
            ("random", ["own", "torch", "torch-mcg31"]),
        ):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}: {value!r} is unknown{did_you_mean(value, known)}")
        if self.schedule != "flat" and 0 < self.decay_steps < self.warmup_steps:
            raise InputError(
                f"decay_steps: {self.decay_steps} are fewer than warmup_steps = {self.warmup_steps}, "
                "which are among them; choose more, or 0 for the whole run"
            )
        for name in ("decay_steps", "initial_lr"):
            if self.schedule == "flat" and (value := getattr(self, name)):
                raise InputError(
                    f"{name}: {value} does nothing with the schedule 'flat'; leave it out, or choose 'cosine'"
                )


@dataclass(frozen=True)
class RunConfig:
    """One run."""

    model: GPTConfig
    data: DataConfig
    training: TrainingConfig

    @property
    def stride(self) -> int:
        return self.data.stride or self.model.context_length

    def groups(self) -> dict[str, GPTConfig | DataConfig | TrainingConfig]:
        return {"model": self.model, "data": self.data, "training": self.training}

    def replace(self, settings: Mapping[str, Any]) -> RunConfig:
        """With some settings changed, by their plain names: no two groups share one.  Raises InputError for others."""
        owner = {f.name: name for name, group in self.groups().items() for f in fields(group)}
        values = {name: asdict(group) for name, group in self.groups().items()}
        for name, value in settings.items():
            if name not in owner:
                raise InputError(f"setting: {name!r} is unknown{did_you_mean(name, list(owner))}")
            values[owner[name]][name] = _typed(name, value, values[owner[name]][name])
        return RunConfig(
            GPTConfig(**values["model"]), DataConfig(**values["data"]), TrainingConfig(**values["training"])
        )

    def to_toml(self) -> str:
        lines = []
        for name, group in self.groups().items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in asdict(group).items()), ""]
        return "\n".join(lines)


def from_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, whatever groups they stand in.  Raises InputError if it cannot be read."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config: {path} cannot be read ({error.strerror}); give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is not TOML ({error})") from None
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= value if isinstance(value, dict) else {name: value}
    return settings


def preset(name: str) -> RunConfig:
    """A preset by its name.  Raises InputError, with a likely correction, if there is none."""
    if name not in MODELS:
        raise InputError(f"preset: {name!r} is unknown{did_you_mean(name, list(MODELS))}")
    if name == "tiny":
        return RunConfig(MODELS["tiny"], DataConfig(), _tiny_training())
    return RunConfig(MODELS[name], DataConfig(tokenizer="gpt2", batch_size=2), TrainingConfig())


def book() -> RunConfig:
    """The book's own training: its model, text, settings and random numbers."""
    return preset("gpt2-124m").replace({"data": "the-verdict", "random": "torch"})


def fine_tuning() -> RunConfig:
    """Training that goes on from weights: small steps, few epochs.  Sizes and tokenizer are the weights' own."""
    return preset("gpt2-124m").replace({"lr": 5e-5, "epochs": 2})


def _tiny_training() -> TrainingConfig:
    return TrainingConfig(
        epochs=20,
        lr=2e-3,
        schedule="cosine",
        warmup_steps=40,
        min_lr=1e-4,
        max_norm=1.0,
        eval_freq=20,
        sample_every=4,
    )


def _require(name: str, value: float, allowed: bool, what: str) -> None:
    if not allowed:
        raise InputError(f"{name}: {value} is not allowed; choose a number {what}")


def _own_types(group: DataConfig | TrainingConfig) -> None:
    for f in fields(group):
        object.__setattr__(group, f.name, _typed(f.name, getattr(group, f.name), f.default))


def _typed(name: str, value: Any, like: Any) -> Any:
    """The value in the setting's type: NumPy's numbers do, and whole ones for fractions; nothing else is converted."""
    value = as_python_scalar(value)
    if isinstance(like, float) and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(like):
        raise InputError(f"{name}: {value!r} is not allowed; expected a value like {like!r}")
    if isinstance(value, str) and not _is_unicode(value):
        raise InputError(f"{name}: {value!r} is not UTF-8 text; give it in UTF-8")
    return value


def _is_unicode(text: str) -> bool:
    """Not so for an argument's bytes that were no UTF-8: they reach us as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants this one escaped too
    return repr(value)
