"""Command-line options from the settings' dataclasses: --key value overrides a TOML file, which overrides a preset."""

from __future__ import annotations

import os
import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ..backend.cpu.threads import set_threads
from ..backend.cuda_probe import cuda_problem
from ..backend.precision import set_precision
from ..backend.select import Device, resolve_device
from ..errors import InputError, Notice, counted
from ..gpt.model import GPTModel
from ..training.config import RunConfig, book, fine_tuning, from_toml, preset
from ..training.corpus import TALES
from ..training.sources import MODEL_SOURCES, TOKENIZERS, open_model, tokenizer_for_model
from .terminal import escaped
from .windows_names import why_not_on_windows

MODEL_HELP = {
    "vocab_size": "vocabulary size; if larger than the tokenizer's, the extra ids are padding, say to a multiple of 64",
    "context_length": "context in tokens",
    "emb_dim": "embedding dimension",
    "n_heads": "attention heads; must divide emb_dim",
    "n_layers": "transformer blocks",
    "drop_rate": "dropout rate",
    "qkv_bias": "query, key and value layers have biases",
    "tied_head": "output head shares the token embedding's weight",
}

METAVARS = {int: "N", float: "X", str: "TEXT"}


def user_path(text: str) -> Path:
    """A path with ~ expanded: a shell does not expand --out=~/runs.

    Raises ArgumentTypeError for an empty path, which would be ".", and for one that the system cannot have.
    """
    if not text:
        raise ArgumentTypeError("the path is empty")
    if "\0" in text:
        raise ArgumentTypeError(f"the path {text!r} has a zero byte")
    path = os.path.expanduser(text)
    if sys.platform == "win32" and (reason := why_not_on_windows(path)):
        raise ArgumentTypeError(reason)
    return Path(path)


def add_settings(parser: ArgumentParser, *, only: Collection[str] | None = None, default: str = "tales") -> None:
    """Add --preset, --book, --config, and one option per setting, except --weights: see add_weights.

    only: the settings that the command uses; None for all of them.  default: the preset, unless another text is named.
    """
    names_text = only is None or "data" in only
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="tiny, tales, gpt2 (or gpt2-124m), gpt2-medium, gpt2-large or gpt2-xl "
        f"[{default}{'; tiny for another text' if names_text else ''}]",
    )
    parser.add_argument(
        "--book",
        action="store_true",
        help=(
            "the book's training: gpt2-124m on the-verdict, with PyTorch's random numbers"
            if only is None
            else "the book's model, gpt2-124m"
        ),
    )
    parser.add_argument(
        "--config", type=user_path, metavar="FILE", help="a TOML file with settings, such as a run's config.toml [none]"
    )
    tiny = preset("tiny" if names_text else default).groups()
    for name, group in preset(default).groups().items():
        used = [f for f in fields(group) if f.name != "weights" and (only is None or f.name in only)]
        section = parser.add_argument_group(f"{name} settings") if used else None
        for f in used:
            value, other = getattr(group, f.name), getattr(tiny[name], f.name)
            what = f.metadata.get("help") or MODEL_HELP[f.name]
            _add_option(section, f.name, value, f"{what} [{value}{'' if other == value else f'; tiny: {other}'}]")


def _add_option(section: Any, name: str, default: Any, what: str) -> None:
    flag = flag_of(name)
    what = what.replace("%", "%%")
    if isinstance(default, bool):
        section.add_argument(flag, action=BooleanOptionalAction, default=None, help=what)
    else:
        section.add_argument(flag, type=type(default), default=None, metavar=METAVARS[type(default)], help=what)


def add_weights(parser: ArgumentParser) -> None:
    """Add --init-from, also called --weights: a model to start training from."""
    parser.add_argument(
        "--init-from",
        "--weights",
        dest="weights",
        metavar="SOURCE",
        help=(
            f"start from these weights: {MODEL_SOURCES}; settings that are not given, and the text, are then "
            f"{_fine_tuning_settings()} [random weights]"
        ),
    )


def _fine_tuning_settings() -> str:
    """The settings in which a training from weights differs from one on tales."""
    groups, usual = fine_tuning().groups(), preset("tales").groups()
    changed = {
        f.name: getattr(group, f.name)
        for name, group in groups.items()
        if name != "model"
        for f in fields(group)
        if f.name != "tokenizer" and getattr(group, f.name) != getattr(usual[name], f.name)  # it is the weights' own
    }
    return ", ".join(f"{name} = {value}" for name, value in changed.items())


def config_from(options: Namespace) -> RunConfig:
    """The preset, overridden by the file, overridden by the options."""
    settings = settings_from(options)
    return preset_from(options, settings).replace(settings)


def preset_from(options: Namespace, settings: Mapping[str, Any], weights: bool = False) -> RunConfig:
    """The configuration to override: --book's or --preset's, or the default for the settings, with `weights` or not."""
    if options.book and options.preset:
        raise InputError("book: it is a preset of its own; leave out --preset")
    if options.book:
        return book()
    return fine_tuning() if weights and not options.preset else preset(options.preset or default_preset(settings))


def default_preset(settings: Mapping[str, Any]) -> str:
    """The name of the preset that fits the text of the settings, which is tales unless they name another."""
    return "tales" if settings.get("data", TALES) == TALES else "tiny"


def settings_from(options: Namespace) -> dict[str, Any]:
    """All settings given in the file or on the command line, which takes precedence."""
    in_file = {} if options.config is None else from_toml(options.config)
    return {**in_file, **given_settings(options)}


def given_settings(options: Namespace) -> dict[str, Any]:
    """The settings given on the command line."""
    known = [f.name for group in preset("tiny").groups().values() for f in fields(group)]
    return {name: value for name in known if (value := getattr(options, name, None)) is not None}


def is_given(options: Namespace, *names: str) -> bool:
    """Tell whether the command line gave one of these settings, which are None otherwise."""
    return any(getattr(options, name, None) is not None for name in names)


def check_no_settings(options: Namespace, path: Path, settings: Collection[str]) -> None:
    """Raise InputError for one of these settings beside a saved model, which has its own."""
    given = [name for name in (*settings, "preset", "config") if is_given(options, name)] + ["book"] * options.book
    if given:
        raise InputError(
            f"{options.command}: {path} has settings of its own; leave out {flag_of(given[0])}, or the model"
        )


def note(text: str) -> None:
    """Print a note on stderr, apart from the output."""
    print(f"note: {escaped(text)}", file=sys.stderr, flush=True)


@contextmanager
def notices_as_notes() -> Iterator[None]:
    """Print each Notice of the package as a note in this block; other warnings as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, Notice):
                note(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = shown
        yield


def flag_of(name: str) -> str:
    """The option of a setting: "--emb-dim" of "emb_dim"."""
    return "--" + name.replace("_", "-")


def add_device(parser: ArgumentParser) -> Any:
    """Add --device, --precision and --threads; returns their group."""
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", metavar="NAME", default="auto", help="auto (a GPU if there is one), cpu or cuda [auto]"
    )
    machine.add_argument(
        "--precision",
        metavar="NAME",
        default="fp32",
        help="layers on a GPU: fp32, tf32 or bf16; checkpoints are float32 in each [fp32]",
    )
    machine.add_argument("--threads", metavar="N", help="CPU threads [NANOGRAD_THREADS, or one per processor]")
    return machine


def device_from(options: Namespace) -> Device:
    """The device that --device names; also sets --precision and --threads.  Raises InputError if one is unavailable."""
    if options.threads is not None:
        set_threads(options.threads)
    set_precision(options.precision)
    device = resolve_device(options.device)
    if device == "cpu" and options.device == "auto" and find_spec("cupy"):
        note(f"the CPU is used: {cuda_problem()}")
    if device == "cpu" and options.precision != "fp32":
        raise InputError(f"--precision: {options.precision} needs a GPU, and the device is the CPU; leave it out")
    return device


def add_model_path(parser: Any, metavar: str = "MODEL", what: str = MODEL_SOURCES) -> None:
    """Add the model as a positional argument, and --model and --weights as other ways to give it."""
    parser.add_argument("model", nargs="?", type=user_path, metavar=metavar, help=what)
    parser.add_argument(
        "--model", "--weights", dest="model_option", type=user_path, metavar=metavar, help=f"the same as {metavar}"
    )


def model_path_if_given(options: Namespace) -> Path | None:
    """The model that the command line names, or None.  Raises InputError for two."""
    first, second = options.model, options.model_option
    if first is not None and second is not None:
        raise InputError(f"model: both {first} and {second} are given; leave one out")
    return first if second is None else second


def model_path(options: Namespace, what: str = "model") -> Path:
    """The model that the command line names.  Raises InputError for none and for two."""
    path = model_path_if_given(options)
    if path is None:
        command = f"nanograd-gpt {options.command}"
        raise InputError(f"{command}: no {what} is given; name one, for example: {command} runs/tales")
    return path


def add_model(parser: ArgumentParser) -> None:
    """Add the model, --tokenizer, --device and --threads."""
    model = parser.add_argument_group("model")
    add_model_path(model)
    add_tokenizer(model)
    add_device(parser)


def add_tokenizer(parser: Any) -> None:
    """Add --tokenizer, which replaces the model's own."""
    parser.add_argument("--tokenizer", metavar="PATH", help=f"{TOKENIZERS} [the model's own]")


class Opened(NamedTuple):
    """A model in evaluation mode, with its tokenizer, and the directory and the prompt of its run, if it has one."""

    model: GPTModel
    tokenizer: Any
    run: Path | None
    prompt: str | None


def model_from(options: Namespace) -> Opened:
    """Open the model that the command line names.

    Raises InputError if the model is missing, or if the tokenizer does not fit it.
    """
    path, device = model_path(options), device_from(options)
    source = open_model(path)
    for damage in source.damaged:
        note(f"{damage}; an earlier checkpoint is used")
    setting = options.tokenizer or source.tokenizer_setting()
    tokenizer = tokenizer_for_model(setting, source.model.config, "the model", given=options.tokenizer is not None)
    V = source.model.config.vocab_size
    if source.run is None and tokenizer.n_vocab < V:  # a run prints this in its header
        note(
            f"tokenizer {setting!r} has {counted(tokenizer.n_vocab, 'token')}, the model {V:,}: the other ids are "
            "padding and never generated"
        )
    return Opened(source.model.to(device), tokenizer, source.run, source.prompt)
