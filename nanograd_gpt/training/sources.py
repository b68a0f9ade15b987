"""Opening a model by path or name: a run, a checkpoint, a file, a directory of weights, or GPT-2 from the hub."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from os.path import lexists
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from ..errors import CLOSE, InputError
from ..gpt.config import GPT2_NAMES, GPTConfig
from ..gpt.model import GPTModel
from ..tokenizer.tokenizer import GPT2_VOCAB, get_tokenizer, tokenizer_beside
from ..weights.hub import GPT2, download_gpt2, is_gpt2_name
from ..weights.load import is_pretrained, open_pretrained, several_rates
from .checkpoint import load_checkpoint
from .find_checkpoint import find_checkpoint

MODEL_SOURCES = (
    f"a run's directory, a checkpoint, a model file, or GPT-2's weights: {', '.join(GPT2)} (downloaded once), a "
    "directory with model.safetensors and config.json, or one with OpenAI's model.ckpt and hparams.json"
)
TOKENIZERS = "'gpt2', a saved tokenizer's file, Hugging Face's tokenizer.json or vocab.json, or a directory with one"


def load_pretrained(source: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> GPTModel:
    """Load a model by path or name; returns it in eval mode.

    source              path of a run's directory, a checkpoint, a model file, or a directory with Hugging Face's or
                        OpenAI's files; or "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl" (downloaded once),
                        or another name of theirs: see download_gpt2
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
    for damage in opened.damaged:
        warnings.warn(f"{damage}; an earlier checkpoint is used", stacklevel=2)
    return opened.model


class Source(NamedTuple):
    """A model in eval mode, and its origin."""

    model: GPTModel
    path: Path
    run: Path | None  # its run's directory, if it comes from a run
    rates: Mapping[str, float]  # dropout rates by name, if its config.json has several
    damaged: Sequence[str] = ()  # what is wrong with newer checkpoints of its run, which were passed over
    prompt: str | None = None  # the text that its run's samples continue

    def own_tokenizer(self) -> str | None:
        """Return the tokenizer setting that belongs to the model: its run's, or a file beside the weights; else None.

        Raises InputError for a tokenizer file of an unsupported kind.
        """
        beside = tokenizer_beside(self.path) if self.run is None else self.run / "tokenizer.json"
        return None if beside is None else str(beside)

    def tokenizer_setting(self) -> str:
        """Return the model's own tokenizer setting; "gpt2" for a model without one that has GPT-2's ids.

        Raises InputError for a smaller model without a tokenizer.
        """
        own = self.own_tokenizer()
        if own is None and self.model.config.vocab_size < GPT2_VOCAB:
            raise _without_tokenizer(self.path, "give one with --tokenizer")
        return own or "gpt2"


def pretrained_tokenizer(weights: str | Path) -> tiktoken.Encoding:
    """The tokenizer stored beside weights; without one, GPT-2's for a model with its ids.  A checkpoint has its run's.

    weights             as load_pretrained's source; the name of one of GPT-2's models downloads nothing

    Raises InputError for weights that do not exist, for smaller ones without a tokenizer, and for a stored tokenizer
    that get_tokenizer cannot load.
    """
    path = Path(weights)
    if is_gpt2_name(str(weights)) and not path.exists():
        return get_tokenizer("gpt2")
    beside = tokenizer_beside(path)
    if beside is None and (_vocab_size(path) or GPT2_VOCAB) < GPT2_VOCAB:
        raise _without_tokenizer(path, "load it with get_tokenizer(path)")
    return get_tokenizer(beside or "gpt2")


def _without_tokenizer(path: Path, remedy: str) -> InputError:
    return InputError(f"tokenizer: {path} has no tokenizer beside its weights; {remedy}")


def _vocab_size(path: Path) -> int | None:
    """The vocabulary size of a model; None where its files do not tell its configuration."""
    if not path.exists():
        raise _missing(path)
    if not is_pretrained(path):
        return GPTConfig.of(find_checkpoint(path).state["config"]).vocab_size
    try:
        return open_pretrained(path).config.vocab_size
    except InputError:  # loading the weights says what is missing, such as n_heads, which a tokenizer does not need
        return None


def tokenizer_for_model(setting: str, config: GPTConfig, whose: str, given: bool = False) -> tiktoken.Encoding:
    """Load the tokenizer of a setting; the model's ids beyond it are padding.

    given: whether --tokenizer gave it, and not the model.  Raises InputError if it has more ids than the model.
    """
    tokenizer, V = get_tokenizer(setting), config.vocab_size
    if tokenizer.n_vocab > V:
        remedy = "leave --tokenizer out, or give the model's own" if given else "give the right one with --tokenizer"
        raise InputError(f"tokenizer: {setting!r} has {tokenizer.n_vocab} tokens, {whose} {V}; {remedy}")
    return tokenizer


def open_model(source: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> Source:
    """Open the model in a run, a checkpoint or a file of weights; n_heads and drop_rate apply to weights only.

    Raises InputError for a model that is not found, and RunError if a download fails.
    """
    path = local_path(Path(source))
    if is_pretrained(path):
        opened = open_pretrained(path, n_heads, drop_rate)
        return Source(opened.load(), path, None, opened.rates)
    found = find_checkpoint(path)
    model = GPTModel(found.state["config"])
    try:
        load_checkpoint(found.path, model)
    except (InputError, OSError):
        if found.path == path or lexists(found.path):
            raise
        return open_model(path)  # its run has deleted it in favour of newer ones
    return Source(model, path, found.run, {}, found.damaged, _prompt(found.state))


def _prompt(state: Mapping[str, Any]) -> str | None:
    """The prompt in the settings of a checkpoint's state, if it has one; resuming checks these settings."""
    settings: Any = state.get("settings")
    training = settings.get("training") if isinstance(settings, Mapping) else None
    prompt = training.get("prompt") if isinstance(training, Mapping) else None
    return prompt if isinstance(prompt, str) and prompt else None


def local_path(path: Path) -> Path:
    """Return the path itself if it exists, or else the downloaded file for a GPT-2 name.

    Raises InputError for neither, and RunError if the download fails.
    """
    if path.exists():
        return path
    if is_gpt2_name(str(path)):
        return download_gpt2(str(path))
    raise _missing(path)


def _missing(path: Path) -> InputError:
    """The error about a path that does not exist, with a similar one beside it or GPT-2's similar name."""
    names = [name for names in GPT2_NAMES.values() for name in names]
    beside = [str(path.with_name(other.name)) for other in path.parent.glob("*")] if path.parent.is_dir() else []
    close = get_close_matches(str(path), [*beside, *names], n=1, cutoff=CLOSE)
    return InputError(
        f"model: {path} does not exist{f'; did you mean {close[0]!r}?' if close else f'; give {MODEL_SOURCES}'}"
    )
