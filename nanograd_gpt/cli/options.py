"""Command-line options made from the settings' dataclasses: a preset, then a TOML file, then --key value."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from ..backend.cpu.threads import set_threads
from ..backend.select import Device, resolve_device
from ..errors import InputError
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..tokenizer.tokenizer import get_tokenizer, tokenizer_beside
from ..training.checkpoint import load_checkpoint, read_state
from ..training.config import RunConfig, book, fine_tuning, from_toml, preset
from ..training.run_directory import latest_checkpoint
from ..weights.hub import GPT2, download_gpt2
from ..weights.load import is_pretrained, open_pretrained

MODEL_SOURCES = (
    f"a run's directory, a checkpoint, a model file, or GPT-2's weights: {', '.join(GPT2)} (downloaded once), a "
    "directory with model.safetensors and config.json, or one with OpenAI's model.ckpt and hparams.json"
)
TOKENIZERS = "'gpt2', a saved tokenizer's file, Hugging Face's tokenizer.json or vocab.json, or a directory with one"
MODEL_HELP = {
    "vocab_size": "the tokenizer's, unless a larger one is given: padded, to a multiple of 64 say, which suits a GPU",
    "context_length": "tokens the model looks back on",
    "emb_dim": "channels",
    "n_heads": "attention heads; they share emb_dim",
    "n_layers": "transformer blocks",
    "drop_rate": "dropout",
    "qkv_bias": "biases in the query, key and value layers",
    "tied_head": "the head shares the token embedding's weight",
}


def user_path(text: str) -> Path:
    """A path as it is typed: a shell leaves --out=~/runs to us."""
    return Path(os.path.expanduser(text))


def add_settings(parser: ArgumentParser) -> None:
    """--preset, --config and one option for every setting but --weights, which training alone has."""
    parser.add_argument("--preset", help="tiny, gpt2-124m, gpt2-355m, gpt2-774m or gpt2-1558m [tiny]")
    parser.add_argument(
        "--book", action="store_true", help="the book's training: gpt2-124m, the-verdict, PyTorch's numbers"
    )
    parser.add_argument("--config", type=user_path, help="a TOML file with settings, such as a run's config.toml")
    for name, group in preset("tiny").groups().items():
        section = parser.add_argument_group(f"{name} settings")
        for f in fields(group):
            if f.name == "weights":
                continue
            default = getattr(group, f.name)
            what = f.metadata.get("help") or MODEL_HELP[f.name]
            _add_option(section, f.name, default, f"{what} [tiny: {default}]")


def _add_option(section: Any, name: str, default: Any, what: str) -> None:
    flag = "--" + name.replace("_", "-")
    what = what.replace("%", "%%")
    if isinstance(default, bool):
        section.add_argument(flag, action=BooleanOptionalAction, default=None, help=what)
    else:
        section.add_argument(flag, type=type(default), default=None, metavar=name.upper(), help=what)


def add_weights(parser: ArgumentParser) -> None:
    """--weights, of training: what it starts from"""
    parser.add_argument(
        "--weights",
        metavar="SOURCE",
        help=f"start from these instead of random numbers, with small steps: {MODEL_SOURCES}",
    )


def config_from(options: Namespace) -> RunConfig:
    """The preset, changed by the file, changed by the options that were given."""
    return preset_from(options).replace(settings_from(options))


def preset_from(options: Namespace, weights: bool = False) -> RunConfig:
    """What the options change: --book's or --preset's, or else that of a training from `weights` or from nothing."""
    if options.book and options.preset:
        raise InputError("book: it is a preset of its own; leave out --preset")
    if options.book:
        return book()
    return fine_tuning() if weights and not options.preset else preset(options.preset or "tiny")


def settings_from(options: Namespace) -> dict[str, Any]:
    """All settings that were given: in the file, or else on the command line."""
    in_file = {} if options.config is None else from_toml(options.config)
    return {**in_file, **given_settings(options)}


def given_settings(options: Namespace) -> dict[str, Any]:
    """The settings that stand on the command line itself."""
    known = [f.name for group in preset("tiny").groups().values() for f in fields(group)]
    return {name: value for name in known if (value := getattr(options, name, None)) is not None}


def add_device(parser: ArgumentParser) -> None:
    """--device and --threads"""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu or cuda")
    parser.add_argument("--threads", help="threads on the CPU [NANOGRAD_THREADS, or one for each processor]")


def device_from(options: Namespace) -> Device:
    """The device that --device names; also sets --threads.  Raises InputError if either cannot be."""
    if options.threads is not None:
        set_threads(options.threads)
    return resolve_device(options.device)


def add_model(parser: ArgumentParser) -> None:
    """--model or --weights, which are one option, --tokenizer and --device"""
    parser.add_argument("--model", "--weights", type=user_path, required=True, help=MODEL_SOURCES)
    parser.add_argument("--tokenizer", help=f"in place of the model's own: {TOKENIZERS}")
    add_device(parser)


def model_from(options: Namespace) -> tuple[GPTModel, Any, Path | None]:
    """The model that --model names, in evaluation mode; its tokenizer; and its run's directory, if it has one.

    Raises InputError if there is no such model, or if the tokenizer does not fit it.
    """
    device = device_from(options)
    source = any_model(options.model)
    setting = options.tokenizer or source.own_tokenizer() or "gpt2"
    tokenizer = tokenizer_for_model(setting, source.model.config, "the model")
    V = source.model.config.vocab_size
    if source.run is None and tokenizer.n_vocab < V:  # a run says so itself, as it begins
        print(
            f"note: tokenizer {setting!r} has {tokenizer.n_vocab:,} tokens, the model {V:,}: the other ids are taken "
            "for padding, and never chosen",
            file=sys.stderr,
        )
    return source.model.to(device), tokenizer, source.run


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


def any_model(path: Path) -> Source:
    """The model in a run, a checkpoint or any layout of weights.

    Raises InputError if there is no such model, and RunError if it cannot be downloaded.
    """
    path = local_path(path)
    if is_pretrained(path):
        opened = open_pretrained(path)
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
