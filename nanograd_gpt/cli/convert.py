"""Convert a model's weights to one file with the book's names, or to a directory in Hugging Face's layout.

A tokenizer that belongs to the model is written too: beside the file as NAME.tokenizer.json, or into the directory, as
the files that transformers loads.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from ..tokenizer.tokenizer import save_tokenizer
from ..training.checkpoint import save_model
from ..training.sources import MODEL_SOURCES, TOKENIZERS, open_model, tokenizer_for_model
from ..weights.save import save_pretrained
from .options import user_path

GPT2_VOCAB = 50257  # weights of this size without a tokenizer are GPT-2's


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=user_path, help=MODEL_SOURCES)
    parser.add_argument("--tokenizer", help=f"use instead of the model's own: {TOKENIZERS}")
    parser.add_argument(
        "target", type=user_path, help="NAME.safetensors for one file; else a directory for Hugging Face's layout"
    )


def run(options: Namespace) -> int:
    target: Path = options.target
    if target.exists():
        raise InputError(f"convert: {target} exists already; give a new name")
    beside = target.with_suffix(".tokenizer.json")
    source = open_model(options.source)
    setting = options.tokenizer or source.own_tokenizer()
    one_file = target.suffix == ".safetensors"
    if setting is None and not one_file and source.model.config.vocab_size == GPT2_VOCAB:
        setting = "gpt2"
    tokenizer = tokenizer_for_model(setting, source.model.config, "the model") if setting else None
    if one_file:
        if tokenizer is not None and beside.exists():
            raise InputError(f"convert: {beside} exists already; give a new name")
        target.parent.mkdir(parents=True, exist_ok=True)
        save_model(target, source.model)
        if tokenizer is not None:
            save_tokenizer(tokenizer, beside)
            print(f"{beside}: its tokenizer, {tokenizer.n_vocab:,} tokens")
    else:
        save_pretrained(target, source.model, tokenizer)
        if tokenizer is not None:
            print(f"{target / 'tokenizer.json'}: its tokenizer, {tokenizer.n_vocab:,} tokens")
    print(f"{target}: {source.model.n_parameters:,} parameters")
    return 0
