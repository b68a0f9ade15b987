"""Saving a model in Hugging Face's layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from ..backend.contract import Array
from ..errors import InputError
from ..files import as_path, check_named, fsync_tree, is_empty_directory, make_directory, not_written, rename
from ..gpt.model import GPTModel
from ..tokenizer.encoding import end_of_text, padding_ids
from ..tokenizer.export import tokenizer_files
from ..tokenizer.tokenizer import save_tokenizer
from .config_files import to_config_json, to_generation_config
from .gpt2_names import HUGGING_FACE, PREFIX, gpt2_mappings
from .write_safetensors import KINDS, write_safetensors


def save_pretrained(directory: Path | str, model: GPTModel, tokenizer: tiktoken.Encoding | None = None) -> Path:
    """Write a directory that Hugging Face's transformers load, atomically; returns its path.

    directory           path of a new directory: model.safetensors, config.json, generation_config.json and the
                        tokenizer's files
    model               GPTModel of float16, float32 or float64; without qkv_bias, biases of 0 are written
    tokenizer           tiktoken.Encoding with at most vocab_size ids, or None [None]: then the last id is taken for the
                        end of text.  Written as tokenizer.json, vocab.json with merges.txt, and tokenizer_config.json;
                        one that does not split words as GPT-2 does, in the format of save_tokenizer, which transformers
                        do not read

    Raises InputError if the directory exists, for another dtype and for a tokenizer with more ids than the model;
    RunError if the files cannot be written.

    >>> import tempfile
    >>> import nanograd_gpt as ng
    >>> tokenizer = ng.train_tokenizer("The cat sat on the mat.  " * 8, n_merges=10)
    >>> config = ng.GPTConfig(tokenizer.n_vocab, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = save_pretrained(f"{directory}/exported", model, tokenizer)
    ...     for file in sorted(path.iterdir()):
    ...         print(file.name)
    config.json
    generation_config.json
    merges.txt
    model.safetensors
    tokenizer.json
    tokenizer_config.json
    vocab.json
    """
    directory = as_path(directory, "save_pretrained(directory, model, tokenizer)")
    check_named(directory, "directory")
    if directory.exists() and not is_empty_directory(directory):
        raise InputError(f"convert: {directory} exists already; give a new directory")
    tensors, config = _gpt2_tensors(model), model.config
    padding = [] if tokenizer is None else padding_ids(tokenizer, config.vocab_size).tolist()
    last = config.vocab_size - 1 if tokenizer is None else end_of_text(tokenizer)
    work = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    make_directory(work.parent)
    work.mkdir()
    try:
        write_safetensors(work / "model.safetensors", tensors, {"format": "pt"})
        _write_json(work / "config.json", to_config_json(config, last))
        _write_json(work / "generation_config.json", to_generation_config(config, last, padding))
        if tokenizer is not None:
            _write_tokenizer(work, tokenizer, config.context_length)
        fsync_tree(work)
        if directory.exists():
            directory.rmdir()
        rename(work, directory)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise not_written(directory, error) from None
    return directory


def _write_tokenizer(directory: Path, tokenizer: tiktoken.Encoding, context_length: int) -> None:
    files = tokenizer_files(tokenizer, context_length)
    if files is None:
        save_tokenizer(tokenizer, directory / "tokenizer.json")
        return
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8", newline="\n")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _gpt2_tensors(model: GPTModel) -> dict[str, list[Array]]:
    """List, for each tensor of the file, the model's arrays that are concatenated in it; views, not copies."""
    state = model.state_dict()
    dtype = state["tok_emb.weight"].dtype
    if str(dtype) not in KINDS:
        raise InputError(f"convert: the model has dtype {dtype}; convert it to one of {', '.join(KINDS)} first")
    tensors: dict[str, list[Array]] = {}
    for part in gpt2_mappings(model.config):
        array = state.get(part.name)
        if array is None:  # a bias that the model does not have
            array = np.zeros(model.config.emb_dim, dtype=dtype)
        name = part.gpt2_name if part.gpt2_name == HUGGING_FACE.head else PREFIX + part.gpt2_name
        tensors.setdefault(name, []).append(array.T if part.transposed else array)
    return tensors
