"""Show sizes of a model or a run, and the environment."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from ..backend.select import resolve_device
from ..bench.estimate import memory_bytes
from ..bench.machine import resident_memory
from ..environment import environment
from ..errors import counted
from ..gpt.config import GPTConfig
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import tokenizer_beside
from ..training.find_checkpoint import find_checkpoint, run_of
from ..training.run_settings import run_settings
from ..training.run_state import RunState, run_state, saved_progress
from ..training.sources import MODEL_SOURCES, local_path, tokenizer_for_model
from ..weights.load import is_pretrained, open_pretrained, several_rates
from .options import MODEL_HELP, add_model_path, add_settings, check_no_settings, config_from, model_path_if_given, note

USED = (*MODEL_HELP, "batch_size")  # settings


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser, what=f"{MODEL_SOURCES} [a new model with these settings]")
    add_settings(parser, only=USED)


def run(options: Namespace) -> int:
    path = model_path_if_given(options)
    if path is None:
        config = config_from(options)
        _print_model(config.model)
        print(
            f"training memory  {gigabytes(resident_memory() + memory_bytes(config.model, config.data.batch_size))}, "
            f"batch {config.data.batch_size} x {config.model.context_length}"
        )
    else:
        check_no_settings(options, path, USED)
        _print_saved(path)
    for name, value in environment().items():
        print(f"{name:<16} {', '.join(value) if isinstance(value, list) else value}")
    print(f"{'device':<16} {resolve_device('auto')}")
    return 0


def _print_model(config: GPTConfig) -> None:
    for name, value in asdict(config).items():
        print(f"{name:<16} {value}")
    print(f"{'parameters':<16} {config.n_parameters:,}, {config.n_parameters * 4 / 2**20:,.2f} MiB in float32")


def _print_saved(path: Path) -> None:
    path = local_path(path)
    if is_pretrained(path):
        opened = open_pretrained(path)
        _print_model(opened.config)
        if opened.rates:
            print(f"{'dropout':<16} {several_rates(opened.rates)}")
        _print_tokenizer(tokenizer_beside(path), opened.config)
        return
    checkpoint, state, damaged = find_checkpoint(path)
    for damage in damaged:
        note(f"{damage}; {checkpoint} is used")
    config = GPTConfig.of(state["config"])
    _print_model(config)
    _print_tokenizer(tokenizer_beside(checkpoint), config)
    print(f"{'checkpoint':<16} {checkpoint}")
    is_a_runs = all(name in state for name in RunState._fields)  # not the caller's own state
    if is_a_runs and (run := run_of(checkpoint)) != checkpoint and "settings" in state:
        for line in run_settings(run, checkpoint, state).notes(run, checkpoint):
            note(line)
    progress = asdict(saved_progress(checkpoint, run_state(checkpoint, state))) if is_a_runs else {}
    for name, value in progress.items():
        if name != "epoch_stream":
            print(f"{name:<16} {value}")


def _print_tokenizer(path: Path | None, config: GPTConfig) -> None:
    """Print a model's own tokenizer, and the number of ids that are padding."""
    if path is None:
        return
    tokenizer = tokenizer_for_model(str(path), config, "the model")
    padding = len(padding_ids(tokenizer, config.vocab_size))
    print(f"{'tokenizer':<16} {path}, {counted(config.vocab_size - padding, 'token')}")
    if padding:
        print(
            f"{'padding':<16} {counted(padding, 'id')} of the vocabulary {'has' if padding == 1 else 'have'} no token"
        )


def gigabytes(n: float) -> str:
    """A number of bytes in GiB, or MiB if it is small."""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"
