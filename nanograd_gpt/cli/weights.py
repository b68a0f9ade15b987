"""The plan of a new run: random weights, or those of --init-from with their sizes and tokenizer."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, NamedTuple

import tiktoken

from ..errors import InputError
from ..gpt.config import preset_name
from ..gpt.model import GPTModel
from ..training.config import RunConfig, preset
from ..training.sources import TOKENIZERS, open_model, tokenizer_for_model
from ..training.weights import check_sizes
from ..weights.load import several_rates
from .options import default_preset, preset_from, settings_from, user_path

NANOGPTS = {  # values of its init_from
    "resume": "to go on with a run, give --resume RUN",
    "scratch": "leave it out to start from random weights",
}


class Plan(NamedTuple):
    """A new run."""

    name: str  # of its directory, unless --out is given
    config: RunConfig
    tokenizer: tiktoken.Encoding | None  # None: as configured
    weights: GPTModel | None  # None: random
    vocab_size: int | None  # None: the tokenizer's


def plan_from(options: Namespace) -> Plan:
    """The plan from the options.  Raises InputError if they contradict each other or do not fit the weights."""
    if options.weights == "":
        raise InputError("weights: no model is given; name one, or leave out --weights to start from random numbers")
    settings = settings_from(options)
    source = _source(settings)
    named = preset_name(options.preset) if options.preset else None
    name = "book" if options.book else named or ("fine-tuning" if source else default_preset(settings))
    base = preset_from(options, settings, weights=bool(source))
    if not source:
        config = base.replace(settings)
        _check_rates(config)
        return Plan(name, config, None, None, config.model.vocab_size if "vocab_size" in settings else None)
    if source in NANOGPTS and not user_path(source).exists():
        raise InputError(f"weights: {source!r} is nanoGPT's word; {NANOGPTS[source]}")
    if options.book:
        raise InputError("book: its training starts from random numbers; leave out --book or --weights")
    found = open_model(user_path(source))
    weights = found.model
    check_sizes(weights.config, settings)
    if found.rates and "drop_rate" not in settings:
        raise InputError(f"drop_rate: {several_rates(found.rates)}; choose it with --drop-rate")
    given = "tokenizer" in settings
    if not given:
        settings["tokenizer"] = found.tokenizer_setting()
    config = base.replace({**weights.config.to_dict(), **settings})
    _check_rates(config)
    return Plan(name, config, _tokenizer(config, weights, source, given), weights, weights.config.vocab_size)


def _check_rates(config: RunConfig) -> None:
    """Raise InputError for a learning rate that would rise in its decay."""
    t = config.training
    if t.schedule != "flat" and t.min_lr > t.lr:
        raise InputError(
            f"min_lr: {t.min_lr:g} is above lr = {t.lr:g}, so the learning rate would rise from its peak; choose "
            f"--min-lr 0 .. {t.lr:g}, such as {t.lr / 10:g}, or --schedule flat"
        )


def _source(settings: dict[str, Any]) -> str:
    """The source of the weights; empty if there is none."""
    return preset("tiny").replace({"weights": settings.get("weights", "")}).training.weights


def _tokenizer(config: RunConfig, weights: GPTModel, source: str, given: bool) -> tiktoken.Encoding:
    setting = config.data.tokenizer
    if setting == "own":
        raise InputError(
            f"tokenizer: 'own' would be a new one, which does not fit the weights {source}; "
            f"leave it out, or give {TOKENIZERS}"
        )
    return tokenizer_for_model(setting, weights.config, f"the weights {source}", given)
