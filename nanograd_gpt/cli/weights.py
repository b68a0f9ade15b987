"""What a new training is to be: from random numbers, or from --weights, with their sizes and their tokenizer."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from ..errors import InputError
from ..gpt.model import GPTModel
from ..gpt.tokenizer import get_tokenizer
from ..training.config import RunConfig, preset
from ..training.weights import check_sizes
from .options import any_model, preset_from, settings_from, user_path


class Plan(NamedTuple):
    """A new training."""

    name: str  # of its directory, if no other is given
    config: RunConfig
    tokenizer: tiktoken.Encoding | None  # None: the configuration tells
    weights: GPTModel | None  # None: it starts from random numbers


def plan_from(options: Namespace) -> Plan:
    """Raises InputError for options that do not fit together, or do not fit the weights."""
    if options.weights == "":
        raise InputError("weights: it is empty; name a model, or leave out --weights to start from random numbers")
    settings = settings_from(options)
    source = _source(settings)
    name = "book" if options.book else options.preset or ("fine-tuning" if source else "tiny")
    base = preset_from(options, weights=bool(source))
    if not source:
        return Plan(name, base.changed(settings), None, None)
    if options.book:
        raise InputError("book: its training starts from random numbers; leave out --book or --weights")
    weights, run = any_model(user_path(source))
    check_sizes(weights.config, settings)
    settings.setdefault("tokenizer", _tokenizer_of(run))
    config = base.changed({**weights.config.to_dict(), **settings})
    return Plan(name, config, _tokenizer(config, weights, source), weights)


def _source(settings: dict[str, Any]) -> str:
    """Where the weights are; empty if there are none."""
    return preset("tiny").changed({"weights": settings.get("weights", "")}).training.weights


def _tokenizer_of(run: Path | None) -> str:
    """The setting that means the weights' own tokenizer: GPT-2's, where they come without a run."""
    return "gpt2" if run is None else str(run / "tokenizer.json")


def _tokenizer(config: RunConfig, weights: GPTModel, source: str) -> tiktoken.Encoding:
    setting, V = config.data.tokenizer, weights.config.vocab_size
    if setting == "own":
        raise InputError(
            f"tokenizer: 'own' would be a new one, which the weights {source} do not know; "
            "leave it out, or give 'gpt2' or a saved tokenizer's file"
        )
    tokenizer = get_tokenizer(setting)
    if tokenizer.n_vocab != V:
        raise InputError(
            f"tokenizer: {setting!r} has {tokenizer.n_vocab} tokens, the weights {source} {V}; "
            "give the right one with --tokenizer"
        )
    return tokenizer
