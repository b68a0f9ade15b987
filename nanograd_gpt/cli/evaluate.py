"""Measure a model's loss, perplexity and bits per byte.

The text is a part of its run's own, or another one.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from math import isnan
from pathlib import Path

import numpy as np

from ..errors import InputError, RunError, counted, did_you_mean
from ..tokenizer.tokenizer import text_to_token_ids
from ..training.corpus import load_text, split_text
from ..training.evaluation import count_bytes, evaluate_text
from ..training.find_checkpoint import find_checkpoint
from ..training.run_settings import run_settings
from ..training.run_text import find_text
from .options import add_model, model_from, model_path, note

SPLITS = ["train", "val", "test"]
REMEDY = "give a text with --data to evaluate all of it, including any part used for training"


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--data",
        metavar="TEXT",
        help="text to evaluate: 'story', 'tales', 'the-verdict' or a UTF-8 file [the run's own]",
    )
    parser.add_argument("--split", metavar="PART", help="part of the run's own text: train, val or test [val]")
    parser.add_argument(
        "--stride",
        type=int,
        metavar="N",
        default=0,
        help=(
            "tokens between the starts of windows; a smaller stride gives each token more context "
            "[0: the context length]"
        ),
    )
    parser.add_argument("--batch-size", type=int, metavar="N", default=1, help="windows per batch [1]")


def run(options: Namespace) -> int:
    model, tokenizer, run_directory, _ = model_from(options)
    what, text = _text(options, run_directory)
    ids = text_to_token_ids(text, tokenizer)[0]
    if len(ids) < 2:
        raise InputError(f"data: {what} has {counted(len(ids), 'token')}, at least 2 are needed; use a longer text")
    length = model.config.context_length
    with np.errstate(all="ignore"):  # non-finite weights are reported in one line
        result = evaluate_text(model, ids, options.stride or None, options.batch_size)
    if isnan(result.nats):
        raise RunError(f"evaluate: the loss is nan: {model_path(options)} has weights that are not finite; use others")
    n_bytes = count_bytes(ids[1:], tokenizer)
    windows = f"{counted(result.windows, 'window')} of {length}, stride {options.stride or length}"
    print(f"text        {what}: {counted(result.tokens, 'token')} predicted in {windows}")
    print(f"loss        {result.loss:.6f} nats per token")
    print(f"perplexity  {result.perplexity:.2f} (vocabulary {model.config.vocab_size})")
    print(f"compressed  {result.bits_per_byte(n_bytes):.6f} bits per byte (of {counted(n_bytes, 'byte')})")
    return 0


def _text(options: Namespace, run_directory: Path | None) -> tuple[str, str]:
    """The name of the text to evaluate, and the text."""
    if options.data is not None:
        if options.split is not None:
            raise InputError("evaluate: --split selects a part of the run's own text; give --split or --data, not both")
        return options.data, load_text(options.data)
    if run_directory is None:
        raise InputError("evaluate: a model file does not record its training text; give a text with --data")
    split = options.split or "val"
    if split not in SPLITS:
        raise InputError(f"split: {split!r} is unknown{did_you_mean(split, SPLITS)}")
    checkpoint, state, _ = find_checkpoint(model_path(options))
    settings = run_settings(run_directory, checkpoint, state)
    for line in settings.notes(run_directory, checkpoint):
        note(line)
    data = settings.config.data
    if split == "test" and not data.test_ratio:
        raise InputError(f"split: {run_directory} has no test part; train it with --test-ratio, or choose train or val")
    text = load_text(find_text(run_directory, data.data, state.get("data_sha256"), REMEDY))
    parts = split_text(text, data.train_ratio, data.test_ratio)
    return f"{data.data} ({split})", parts[SPLITS.index(split)]
