"""Checkpoints: a directory with the model, the optimizer and the state of the run, or one file with the model alone.

    step_N/model.safetensors      the parameters by name
           optimizer.safetensors  exp_avg.NAME and exp_avg_sq.NAME; absent from one that holds the weights alone
           state.json             progress, random streams, the model's configuration, a run's settings, versions; the
                                  optimizer's settings, per parameter group if there are several, and its step counts
           MANIFEST.json          the SHA-256 of each of these, written last

safetensors alone does not detect a flipped bit; hence the manifest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from ..arguments import for_json
from ..backend.contract import Array, HostArray
from ..documents import read_json
from ..errors import InputError
from ..files import (
    UnreadableError,
    as_path,
    check_named,
    fsync,
    fsync_tree,
    make_directory,
    not_written,
    reason_of,
    regular_size,
    rename,
    sha256_of,
)
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..optim import AdamW
from ..weights.load import load_weights, open_pretrained
from ..weights.safetensors_file import open_safetensors
from ..weights.write_safetensors import write_safetensors
from .run_directory import checkpoints

SCHEMA = 1
MAX_STATE = 16 << 20  # bytes of state.json
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")  # suffixes of PyTorch's and pickle's files
NEW, OLD = ".partial", ".old"  # suffixes of what is beside a checkpoint while it is being replaced


def save_checkpoint(
    path: Path | str, model: GPTModel, optimizer: AdamW | None, state: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint directory atomically; returns its path.

    path                directory to write; an existing one is replaced
    model               GPTModel
    optimizer           AdamW over this model's parameters, or None to save the weights alone
    state               mapping of JSON values to save beside them [None]; NumPy's numbers are saved as Python's

    Raises InputError, before anything is written, for an optimizer of another model and for a state that JSON cannot
    hold, RunError if the disk is full.  Source: book section 5.4, with safetensors instead of pickles.

    >>> import tempfile
    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> optimizer = ng.AdamW(model.parameters())
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = save_checkpoint(f"{directory}/step_9", model, optimizer, {"note": "ten updates"})
    ...     print(*sorted(file.name for file in path.iterdir()))
    MANIFEST.json model.safetensors optimizer.safetensors state.json
    """
    path = as_path(path, "save_checkpoint(path, model, optimizer)")
    check_named(path, "path")
    metadata = checkpoint_metadata(model, optimizer, state)
    moments = None if optimizer is None else moments_of(optimizer, model)
    write_checkpoint(path, metadata, model.config, model.state_dict(), moments)
    return seal_checkpoint(path)


def write_checkpoint(
    path: Path,
    metadata: str,
    config: GPTConfig,
    weights: Mapping[str, Array],
    moments: Mapping[str, Array] | None = None,
) -> None:
    """Write a checkpoint's arrays and state beside its place, as no checkpoint yet: seal_checkpoint makes it one."""
    work = _aside(path, NEW)
    shutil.rmtree(work, ignore_errors=True)
    make_directory(work.parent)
    work.mkdir()
    _save_arrays(work / "model.safetensors", weights, config)
    if moments is not None:
        _save_arrays(work / "optimizer.safetensors", moments)
    (work / "state.json").write_text(metadata, encoding="utf-8")


def seal_checkpoint(path: Path) -> Path:
    """Hash what write_checkpoint wrote, flush it to the disk and move it to its place; returns the path."""
    work, old = _aside(path, NEW), _aside(path, OLD)
    hashes = {file.name: sha256_of(file) for file in sorted(work.iterdir())}
    (work / "MANIFEST.json").write_text(json.dumps(hashes, indent=1), encoding="utf-8")
    fsync_tree(work)
    if path.exists():  # a directory cannot replace another; recover_checkpoints undoes a crash between the two renames
        shutil.rmtree(old, ignore_errors=True)
        rename(path, old)
    rename(work, path)
    shutil.rmtree(old, ignore_errors=True)
    return path


class Aside(NamedTuple):
    """A directory beside the place of a checkpoint: not yet moved there, or moved away from there."""

    path: Path
    place: Path


def asides(directory: Path) -> list[Aside]:
    """List what interrupted calls of save_checkpoint have left in a directory, new ones before old ones."""
    return [
        Aside(path, path.with_name(path.name[1:].removesuffix(suffix)))
        for suffix in (NEW, OLD)
        for path in sorted(directory.glob(f".?*{suffix}"))
    ]


def _aside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def moments_of(optimizer: AdamW, model: GPTModel) -> dict[str, Array]:
    """Return AdamW's two moments by a checkpoint's names, without copying."""
    names, saved = _names_of(optimizer, model), optimizer.state_dict()
    return {
        f"{kind}.{name}": array
        for kind in ("exp_avg", "exp_avg_sq")
        for name, array in zip(names, saved[kind], strict=True)
    }


def checkpoint_metadata(model: GPTModel, optimizer: AdamW | None, state: Mapping[str, Any] | None = None) -> str:
    """Return a checkpoint's state.json: everything except arrays.

    Raises InputError for the optimizer of another model and for a state that is not JSON-serialisable.
    """
    metadata = {
        "schema": SCHEMA,
        "config": model.config.to_dict(),
        **({} if optimizer is None else {"optimizer": _optimizer_metadata(optimizer, model)}),
        "model_stream": model.rng.state(),
        **(state or {}),
    }
    try:
        return json.dumps(metadata, indent=1, default=for_json)
    except (TypeError, ValueError) as error:
        raise InputError(f"checkpoint: the state cannot be saved ({error}); give what JSON can hold") from None


def _optimizer_metadata(optimizer: AdamW, model: GPTModel) -> dict[str, Any]:
    names, saved = _names_of(optimizer, model), optimizer.state_dict()
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in saved.get("groups", [])]
    return {
        "settings": saved["settings"],
        "steps": dict(zip(names, saved["steps"], strict=True)),
        **({"groups": groups} if groups else {}),
    }


def load_checkpoint(path: Path | str, model: GPTModel, optimizer: AdamW | None = None) -> dict[str, Any]:
    """Load a checkpoint's weights into a model, and its moments and settings into an optimizer; returns its state.

    path                directory that save_checkpoint wrote
    model               GPTModel of the same configuration; in training mode afterwards if an optimizer is given, else
                        in eval mode, as in the book
    optimizer           AdamW over this model's parameters, or None to load the weights alone [None]

    With an optimizer the model's random stream is restored too.  Raises InputError, and changes nothing, if the
    checkpoint is missing, damaged, or of another configuration.  Source: book section 5.4.

    >>> import tempfile
    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model, other = (ng.GPTModel(config, rng=ng.Generator(seed)) for seed in (1, 2))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = save_checkpoint(f"{directory}/step_9", model, ng.AdamW(model.parameters()), {"note": "ten updates"})
    ...     state = load_checkpoint(path, other)
    >>> state["note"], bool((model.out_head.weight.data == other.out_head.weight.data).all()), other.training
    ('ten updates', True, False)
    """
    path = as_path(path, "load_checkpoint(path, model, optimizer)")
    state = read_state(path)
    check_configuration(path, state, model.config)
    weights = _load_arrays(path / "model.safetensors")
    model.check_state_dict(weights)
    if optimizer is not None:
        moments = _optimizer_state(path, state, _names_of(optimizer, model))
        optimizer.check_state_dict(moments)
        model.rng.set_state(state.get("model_stream"))
        optimizer.load_state_dict(moments)
    model.load_state_dict(weights)
    model.train(optimizer is not None)
    return state


def check_configuration(path: Path, state: Mapping[str, Any], config: GPTConfig) -> None:
    """Raise InputError if a checkpoint's state is of another model configuration."""
    saved, here = GPTConfig.of(state["config"]).to_dict(), config.to_dict()
    if saved != here:
        differing = [f"{name} {value} (here {here[name]})" for name, value in saved.items() if value != here[name]]
        raise InputError(f"checkpoint: {path} is of another configuration: {', '.join(differing)}")


def check_has_optimizer(path: Path, state: Mapping[str, Any]) -> None:
    """Raise InputError for a checkpoint of weights alone, which training cannot be resumed from."""
    if not isinstance(state.get("optimizer"), dict):
        raise InputError(
            f"checkpoint: {path} holds weights without the optimizer's state; resume from a step_N, or start a new run "
            f"from these weights with train --init-from {quote(str(path))}"
        )


def _optimizer_state(path: Path, state: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Assemble an optimizer's state_dict from its file and from state.json."""
    check_has_optimizer(path, state)
    metadata = state["optimizer"]
    path /= "optimizer.safetensors"
    arrays = _load_arrays(path)
    steps = metadata.get("steps")
    steps = steps if isinstance(steps, dict) else {}
    for n in names:
        if f"exp_avg.{n}" not in arrays or f"exp_avg_sq.{n}" not in arrays or n not in steps:
            raise InputError(f"checkpoint: {path} has no optimizer state for {n}; use another checkpoint")
    assembled = {
        **metadata,
        "steps": [steps[n] for n in names],
        "exp_avg": [arrays[f"exp_avg.{n}"] for n in names],
        "exp_avg_sq": [arrays[f"exp_avg_sq.{n}"] for n in names],
    }
    if "groups" in metadata:
        numbers = {n: i for i, n in enumerate(names)}
        try:
            assembled["groups"] = [{**g, "params": [numbers.get(n) for n in g["params"]]} for g in metadata["groups"]]
        except (TypeError, LookupError):
            raise InputError(f"checkpoint: {path} has parameter groups that are damaged; use another one") from None
    return assembled


def read_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint's state.json, after verifying every file against the manifest.

    Raises InputError if the checkpoint is missing, incomplete, damaged or of an unknown schema.
    """
    if not path.is_dir():
        raise InputError(f"checkpoint: {path} does not exist; give a directory such as runs/NAME/checkpoints/step_100")
    manifest = path / "MANIFEST.json"
    if not manifest.is_file():
        if found := checkpoints(path):
            raise InputError(
                f"checkpoint: {path} is a run; give one of its checkpoints, such as {found[-1]}, or use load_pretrained"
            )
        raise InputError(f"checkpoint: {path} has no MANIFEST.json, so it is incomplete; use an earlier one")
    try:
        hashes, state = read_json(manifest), {}
        damaged = [name for name in ("state.json", "model.safetensors") if _differs(path / name, hashes)]
        if not damaged:
            state = read_json(path / "state.json", MAX_STATE)
            if "optimizer" in state and _differs(path / "optimizer.safetensors", hashes):
                damaged.append("optimizer.safetensors")
    except (UnreadableError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read ({reason_of(error)}); use an earlier one") from None
    if damaged:
        raise InputError(f"checkpoint: {path / damaged[0]} is damaged: its SHA-256 differs; use an earlier one")
    if state.get("schema") != SCHEMA:
        raise InputError(f"checkpoint: {path} has schema {state.get('schema')}; this version reads schema {SCHEMA}")
    _check_weights(path, state)
    return state


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a checkpoint's state.json, after verifying this file alone.  Raises InputError as read_state does."""
    state: dict[str, Any] = {}
    try:
        if not _differs(path / "state.json", read_json(path / "MANIFEST.json")):
            state = read_json(path / "state.json", MAX_STATE)
    except (UnreadableError, OSError) as error:
        raise InputError(f"checkpoint: {path} cannot be read ({error}); use an earlier one") from None
    if state.get("schema") != SCHEMA:
        raise InputError(f"checkpoint: {path / 'state.json'} is damaged, or not of schema {SCHEMA}; use an earlier one")
    return state


def _differs(file: Path, hashes: Mapping[str, Any]) -> bool:
    regular_size(file)  # or hashing a FIFO would never end
    return bool(hashes.get(file.name) != sha256_of(file))


def _check_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Raise InputError unless the weights are those of the state's configuration, before memory is taken for them."""
    try:
        config = GPTConfig.of(state.get("config", "missing"))
    except InputError as error:
        raise InputError(f"checkpoint: {path / 'state.json'}: {error}; use an earlier one") from None
    if open_pretrained(path / "model.safetensors").config != config:
        raise InputError(f"checkpoint: {path}: the configurations of its weights and of its state differ")


def save_model(path: Path | str, model: GPTModel, book: bool = False) -> Path:
    """Write only the weights, as one safetensors file; book=True adds the mask buffers of the book's PyTorch model.

    Raises InputError for the suffix of another format, such as .pth.
    """
    path = as_path(path, "save_model(path, model)")
    check_named(path, "path")
    check_suffix(path)
    work = path.with_name(f".{path.name}.partial")
    try:
        _save_arrays(work, model.book_state_dict() if book else model.state_dict(), model.config, named=path)
        fsync(work)
        rename(work, path)
    finally:
        work.unlink(missing_ok=True)
    return path


def check_suffix(path: Path) -> None:
    """Raise InputError for the name of a new file that ends as PyTorch's and pickle's files do."""
    if path.suffix in PICKLES:
        raise InputError(
            f"path: {path}: weights are written as safetensors; name it {path.with_suffix('.safetensors')}"
        )


def load_model(path: Path | str) -> GPTModel:
    """Load a model from a file that save_model wrote, in eval mode; Hugging Face's and OpenAI's weights too.

    load_pretrained also loads runs and GPT-2 by name.  Raises InputError for a file that cannot be read.
    """
    if checkpoints(Path(path)):
        raise InputError(f"model: {path} is a run; use load_pretrained, which loads its newest checkpoint")
    return load_weights(path)


def _names_of(optimizer: AdamW, model: GPTModel) -> list[str]:
    """Return the names in the model of the optimizer's parameters."""
    names = {id(p): name for name, p in model.named_parameters()}
    try:
        return [names[id(p)] for p in optimizer.parameters]
    except KeyError:
        raise InputError("checkpoint: the optimizer has parameters that are not the model's; make a new one") from None


def _save_arrays(
    path: Path, arrays: Mapping[str, Array], config: GPTConfig | None = None, named: Path | None = None
) -> None:
    """Write arrays as safetensors; an error names the path, or the one that the file is to have in the end."""
    metadata = {"format": "pt"} if config is None else {"config": json.dumps(config.to_dict())}
    try:
        write_safetensors(path, {name: [array] for name, array in arrays.items()}, metadata)
    except OSError as error:
        raise not_written(named or path, error) from None


def _load_arrays(path: Path) -> dict[str, HostArray]:
    """Read all arrays of a file, whose checksum is known to be right."""
    return {name: stored[:] for name, stored in open_safetensors(path)[0].items()}
