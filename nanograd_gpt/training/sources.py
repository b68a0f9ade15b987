"""Any model by one name: a run's directory, a checkpoint, a file, a directory of weights, or GPT-2's on the hub."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tiktoken

from ..errors import InputError
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..tokenizer.tokenizer import get_tokenizer, tokenizer_beside
from ..weights.hub import GPT2, download_gpt2
from ..weights.load import is_pretrained, open_pretrained, several_rates
from .checkpoint import load_checkpoint, read_state
from .run_directory import latest_checkpoint

MODEL_SOURCES = (
    f"a run's directory, a checkpoint, a model file, or GPT-2's weights: {', '.join(GPT2)} (downloaded once), a "
    "directory with model.safetensors and config.json, or one with OpenAI's model.ckpt and hparams.json"
)
TOKENIZERS = "'gpt2', a saved tokenizer's file, Hugging Face's tokenizer.json or vocab.json, or a directory with one"


def load_pretrained(source: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> GPTModel:
    """Load a model by path or name; returns it in eval mode.

    source              path of a run's directory, a checkpoint, a model file, or a directory with Hugging Face's or
                        OpenAI's files; or "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" (downloaded once)
    n_heads             int >= 1 or None [None]: needed without a configuration, if emb_dim is not one of GPT-2's
    drop_rate           float in [0, 1) or None [None]: replaces the file's dropout rate

    Raises InputError, naming the file and the tensor, for files that cannot be read and for tensors that are missing,
    left over, or of another shape or dtype; RunError if a download fails.  Warns if config.json has several dropout
    rates, since a model here has one: without drop_rate it is resid_pdrop, which matters in training only.
    Source: book section 5.5.

    >>> import tempfile
    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = ng.save_model(f"{directory}/model.safetensors", model)
    ...     loaded = load_pretrained(path, drop_rate=0.0)
    >>> loaded.config.emb_dim, loaded.config.drop_rate, loaded.training
    (16, 0.0, False)
    """
    opened = open_model(source, n_heads, drop_rate)
    if opened.rates:
        warnings.warn(f"{several_rates(opened.rates)}; give drop_rate", stacklevel=2)
    return opened.model


class Source(NamedTuple):
    """A model in evaluation mode, and where it is from."""

    model: GPTModel
    path: Path
    run: Path | None  # its run's directory, if it has one
    rates: Mapping[str, float]  # of dropout, where a file has several

    def own_tokenizer(self) -> str | None:
        """The setting that means its own: its run's, or what is beside the weights; None where nothing is.

        Raises InputError where that is of a kind that cannot be read.
        """
        beside = tokenizer_beside(self.path) if self.run is None else self.run / "tokenizer.json"
        return None if beside is None else str(beside)


def tokenizer_for_model(setting: str, config: GPTConfig, whose: str) -> tiktoken.Encoding:
    """The tokenizer that a setting means; a model may have more ids than it, which are padding.

    Raises InputError if it has more than the model.
    """
    tokenizer, V = get_tokenizer(setting), config.vocab_size
    if tokenizer.n_vocab > V:
        raise InputError(
            f"tokenizer: {setting!r} has {tokenizer.n_vocab} tokens, {whose} {V}; give the right one with --tokenizer"
        )
    return tokenizer


def open_model(source: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> Source:
    """The model in a run, a checkpoint or any layout of weights; n_heads and drop_rate are for weights alone.

    Raises InputError if there is no such model, and RunError if it cannot be downloaded.
    """
    path = local_path(Path(source))
    if is_pretrained(path):
        opened = open_pretrained(path, n_heads, drop_rate)
        return Source(opened.load(), path, None, opened.rates)
    checkpoint = path if (path / "state.json").exists() else latest_checkpoint(path)
    model = GPTModel(read_state(checkpoint)["config"])
    load_checkpoint(checkpoint, model)
    return Source(model, path, checkpoint.absolute().parent.parent, {})


def local_path(path: Path) -> Path:
    """The path itself; or, for a name of GPT-2's weights where nothing has that path, the file downloaded for it.

    Raises InputError if there is neither, and RunError if it cannot be downloaded.
    """
    if path.exists():
        return path
    if str(path) in GPT2:
        return download_gpt2(str(path))
    raise InputError(f"model: {path} does not exist; give {MODEL_SOURCES}")
