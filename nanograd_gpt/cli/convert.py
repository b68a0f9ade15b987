"""Convert a model to one file, or to Hugging Face's layout.

A file has the book's names of the weights; Hugging Face's layout is a directory, which transformers loads.
Either way, a tokenizer that belongs to the model is written beside the weights.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import tiktoken

from ..errors import InputError, counted
from ..files import check_named, is_empty_directory, writing_named
from ..gpt.model import GPTModel
from ..tokenizer.tokenizer import GPT2_VOCAB, save_tokenizer
from ..training.checkpoint import check_suffix, save_model
from ..training.sources import open_model, tokenizer_for_model
from ..weights.save import save_pretrained
from .options import add_model_path, add_tokenizer, model_path, user_path

ONE_FILE = ".safetensors"


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser)
    target = "NAME.safetensors for one file; else a directory for Hugging Face's layout"
    parser.add_argument("target", nargs="?", type=user_path, metavar="TARGET", help=target)
    parser.add_argument("--out", type=user_path, metavar="TARGET", help="the same as TARGET")
    add_tokenizer(parser)


def run(options: Namespace) -> int:
    model, target = _paths(options)
    check_suffix(target)
    if target.exists() and not (target.suffix != ONE_FILE and is_empty_directory(target)):
        raise InputError(f"convert: {target} exists already; give a new name")
    check_named(target, "out")
    beside = target.with_suffix(".tokenizer.json")
    source = open_model(model)
    setting = options.tokenizer or source.own_tokenizer()
    if setting is None and target.suffix != ONE_FILE and source.model.config.vocab_size == GPT2_VOCAB:
        setting = "gpt2"  # weights of this size without a tokenizer are GPT-2's
    given = options.tokenizer is not None
    tokenizer = tokenizer_for_model(setting, source.model.config, "the model", given) if setting else None
    with writing_named(target):
        _write(source.model, tokenizer, target, beside)
    if target.suffix != ONE_FILE and not source.model.config.qkv_bias:
        print(f"{target}: with query, key and value biases of 0, which this layout needs")
    print(f"{target}: {source.model.n_parameters:,} parameters")
    return 0


def _write(model: GPTModel, tokenizer: tiktoken.Encoding | None, target: Path, beside: Path) -> None:
    if target.suffix == ONE_FILE:
        if tokenizer is not None and beside.exists():
            raise InputError(f"convert: {beside} exists already; give a new name")
        target.parent.mkdir(parents=True, exist_ok=True)
        save_model(target, model)
        if tokenizer is not None:
            save_tokenizer(tokenizer, beside)
            print(f"{beside}: the model's tokenizer, {counted(tokenizer.n_vocab, 'token')}")
    else:
        save_pretrained(target, model, tokenizer)
        if tokenizer is not None:
            print(f"{target / 'tokenizer.json'}: the model's tokenizer, {counted(tokenizer.n_vocab, 'token')}")


def _paths(options: Namespace) -> tuple[Path, Path]:
    """The model and the target; beside --model, a single positional argument is the target."""
    if options.model_option is not None and options.target is None:
        options.model, options.target = None, options.model
    model = model_path(options)
    if options.target is not None and options.out is not None:
        raise InputError(f"out: both {options.target} and {options.out} are given; leave one out")
    target: Path | None = options.target or options.out
    if target is None:
        raise InputError("out: no target is given; name a new file NAME.safetensors, or a new directory")
    return model, target
