"""Loss and perplexity of a trained model on a text, or on a part of its own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from math import exp, inf

from ..autograd import no_grad
from ..errors import InputError
from ..gpt.config import did_you_mean
from ..training.config import preset, settings_in
from ..training.corpus import load_text, split_text
from ..training.data import create_dataloader_v1
from ..training.loss import calc_loss_loader
from .options import add_model, device_from, model_from

LARGEST_EXPONENT = 700  # exp of more does not fit a float
SPLITS = ["train", "val", "test"]


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--data", help="any text: 'story', 'the-verdict' or a UTF-8 file; default: the run's own")
    parser.add_argument("--split", help="of the run's own text: train, val or test [val]")
    parser.add_argument("--batch-size", type=int, default=1, help="windows a batch")


def run(options: Namespace) -> int:
    model, tokenizer, run_directory = model_from(options)
    if options.data is not None:
        if options.split is not None:
            raise InputError("evaluate: --split is of the run's own text; give it or --data, not both")
        what, text = options.data, load_text(options.data)
    else:
        if run_directory is None:
            raise InputError("evaluate: a model file has no text of its own; give one with --data")
        split = options.split or "val"
        if split not in SPLITS:
            raise InputError(f"split: {split!r} is unknown{did_you_mean(split, SPLITS)}")
        data = preset("tiny").changed(settings_in(run_directory / "config.toml")).data
        parts = split_text(load_text(data.data), data.train_ratio, data.test_ratio)
        what, text = f"{data.data} ({split})", parts[SPLITS.index(split)]
    length = model.config.context_length
    loader = create_dataloader_v1(
        text,
        options.batch_size,
        max_length=length,
        stride=length,
        shuffle=False,
        drop_last=False,
        tokenizer=tokenizer,
    )
    if len(loader) == 0:
        raise InputError(f"data: {what} is too short for one window of {length} tokens; use a longer text")
    with no_grad():
        loss = calc_loss_loader(loader, model, device_from(options))
    print(f"text        {what}: {len(loader.dataset)} windows of {length} tokens")
    print(f"loss        {loss:.6f} nats a token")
    perplexity = exp(loss) if loss < LARGEST_EXPONENT else inf
    print(f"perplexity  {perplexity:.2f} (of {model.config.vocab_size} tokens)")
    return 0
