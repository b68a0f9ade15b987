"""Write a model's weights in another layout: one file with our names, or a directory as Hugging Face has it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from ..gpt.export import save_pretrained
from ..training.checkpoint import save_model
from .options import MODEL_SOURCES, any_model, user_path


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=user_path, help=MODEL_SOURCES)
    parser.add_argument("target", type=user_path, help="NAME.safetensors for our names; else a directory for theirs")


def run(options: Namespace) -> int:
    target: Path = options.target
    if target.exists():
        raise InputError(f"convert: {target} exists already; give a new name")
    model, _ = any_model(options.source)
    if target.suffix == ".safetensors":
        target.parent.mkdir(parents=True, exist_ok=True)
        save_model(target, model)
    else:
        save_pretrained(target, model)
    print(f"{target}: {model.n_parameters:,} parameters")
    return 0
