"""GPT-2's weights, in and out: Hugging Face's layout, OpenAI's TensorFlow checkpoint, and our own names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..backend.contract import Array, HostArray
from ..backend.select import to_host
from ..errors import InputError, RunError
from ..rng import Generator
from .config import GPTConfig
from .model import GPTModel
from .names import BUFFERS, HEAD, PREFIX, Part, from_openai, gpt2_parts
from .stored import Stored, open_safetensors, pieces
from .tf_checkpoint import read_tf_checkpoint

HEADS = {768: 12, 1024: 16, 1280: 20, 1600: 25}  # GPT-2's, by emb_dim: the one size that no shape tells
TANH_GELU = "gelu_new", "gelu_pytorch_tanh"  # two names of one formula
AS_OURS = {  # config.json: what must be as our model has it, and what Hugging Face takes where it is not said
    "model_type": ("gpt2", "gpt2"),
    "layer_norm_epsilon": (1e-5, 1e-5),
    "scale_attn_weights": (True, True),
    "scale_attn_by_inverse_layer_idx": (False, False),
    "add_cross_attention": (False, False),
}


@dataclass(frozen=True)
class Pretrained:
    """Weights in files: what is where, and the model that they fit.  Checked, but not read yet."""

    path: Path  # of the file with the weights, for messages
    stored: Mapping[str, Stored]
    parts: list[Part]
    model: GPTModel  # all zeros

    def filled(self) -> GPTModel:
        """The model with its weights, in evaluation mode; they go straight to their place, a few rows at a time."""
        state = self.model.state_dict()
        for part in self.parts:
            target = state[part.ours].T if part.transposed else state[part.ours]
            _copy(self.stored[part.theirs], target, part.third)
        return self.model.eval()


def _copy(stored: Stored, target: Array, third: int | None) -> None:
    """Into target (..., C), from the same shape, or from one third of (..., 3C)."""
    C = target.shape[-1]
    columns = slice(None) if third is None else slice(third * C, (third + 1) * C)
    if target.ndim == 1:
        target[:] = stored[:][columns]
        return
    for rows, piece in pieces(stored):
        target[rows] = piece[:, columns]


class _NoNumbers(Generator):
    """Weights that are about to be loaded need no random numbers, nor any memory before.  Dropout draws as ever."""

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Any:
        return np.zeros(shape, dtype=np.float32)

    def normal(self, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, dtype=np.float32)


def _unfilled(config: GPTConfig) -> GPTModel:
    return GPTModel(config, rng=_NoNumbers())


def load_pretrained(path: Path | str, n_heads: int | None = None) -> GPTModel:
    """The model that a file or a directory holds, in evaluation mode, whichever of the layouts it is in.

    n_heads is needed where there is no configuration and emb_dim is none of GPT-2's.  Raises InputError, naming the
    file and the tensor, for what cannot be read, is missing, left over, or of another shape or kind.
    """
    return open_pretrained(path, n_heads).filled()


def open_pretrained(path: Path | str, n_heads: int | None = None) -> Pretrained:
    """As load_pretrained, but all is only looked at: `model.config` tells its sizes."""
    path = Path(path)
    if not path.is_dir():
        return _from_safetensors(path, n_heads)
    if (path / "hparams.json").is_file():
        return _from_tensorflow(path)
    if (path / "model.safetensors.index.json").is_file():
        raise InputError(f"model: {path} has its weights in several files; save them as one model.safetensors")
    return _from_safetensors(path / "model.safetensors", n_heads)


def is_pretrained(path: Path) -> bool:
    """Whether it is a file, or a directory of one of these layouts: no run's."""
    return path.is_file() or any((path / name).is_file() for name in ("config.json", "hparams.json"))


# --- the layouts


def _from_safetensors(path: Path, n_heads: int | None) -> Pretrained:
    stored, metadata = open_safetensors(path)
    stored = {name: array for name, array in stored.items() if not BUFFERS.fullmatch(name)}
    if "tok_emb.weight" in stored:
        return _own(path, stored, metadata, n_heads)
    stored = {name.removeprefix(PREFIX): array for name, array in stored.items()}
    if "wte.weight" not in stored:
        raise InputError(f"model: {path} has neither tok_emb.weight nor wte.weight, so it is no GPT-2; give another")
    beside = path.with_name("config.json")
    if beside.is_file():
        config = _from_config_json(beside)
    else:
        sizes = _sizes(path, stored, "wte.weight", "wpe.weight", "h.", n_heads)
        config = GPTConfig(**sizes, qkv_bias=True, tied_head=HEAD.theirs not in stored or _is_tied(stored))
    return _checked(path, stored, gpt2_parts(config), _unfilled(config), head=HEAD.theirs, embedding="wte.weight")


def _own(path: Path, stored: Mapping[str, Stored], metadata: Mapping[str, str], n_heads: int | None) -> Pretrained:
    """Our names, which are the book's: from save_model, or a PyTorch state_dict as safetensors."""
    if "config" in metadata:
        config = GPTConfig.of(_parsed(path, metadata["config"]))
    else:
        sizes = _sizes(path, stored, "tok_emb.weight", "pos_emb.weight", "trf_blocks.", n_heads)
        config = GPTConfig(
            **sizes,
            qkv_bias="trf_blocks.0.att.W_query.bias" in stored,
            tied_head=HEAD.ours not in stored,
        )
    model = _unfilled(config)
    parts = [Part(name, name) for name in model.state_dict()]
    return _checked(path, stored, parts, model, head=HEAD.ours, embedding="tok_emb.weight")


def _from_tensorflow(directory: Path) -> Pretrained:
    path = directory / "hparams.json"
    given = _parsed(path, path.read_text(encoding="utf-8", errors="replace"))
    try:
        config = GPTConfig(
            vocab_size=given["n_vocab"],
            context_length=given["n_ctx"],
            emb_dim=given["n_embd"],
            n_heads=given["n_head"],
            n_layers=given["n_layer"],
            qkv_bias=True,
            tied_head=True,
        )
    except KeyError as missing:
        raise InputError(f"model: {path} has no {missing.args[0]!r}; give OpenAI's hparams.json") from None
    prefix = directory / "model.ckpt"
    arrays = {from_openai(name): array for name, array in read_tf_checkpoint(prefix).items()}
    for name, array in arrays.items():
        if array.ndim == 3 and len(array) == 1:  # its layers are convolutions of width 1
            arrays[name] = array[0]
    return _checked(prefix, arrays, gpt2_parts(config), _unfilled(config), head=HEAD.theirs, embedding="wte.weight")


# --- configurations


def _from_config_json(path: Path) -> GPTConfig:
    """Raises InputError for what our model computes otherwise."""
    given = _parsed(path, path.read_text(encoding="utf-8", errors="replace"))
    for name, (ours, default) in AS_OURS.items():
        if given.get(name, default) != ours:
            raise InputError(f"model: {path}: {name} {given[name]!r} is not ours; a model with {ours!r} is needed")
    activation = given.get("activation_function", TANH_GELU[0])
    if activation not in TANH_GELU:
        raise InputError(f"model: {path}: activation_function {activation!r} is not ours; {TANH_GELU[0]!r} is needed")
    try:
        config = GPTConfig(
            vocab_size=given["vocab_size"],
            context_length=given["n_positions"] if "n_positions" in given else given["n_ctx"],
            emb_dim=given["n_embd"],
            n_heads=given["n_head"],
            n_layers=given["n_layer"],
            drop_rate=given.get("resid_pdrop", 0.1),
            qkv_bias=True,
            tied_head=given.get("tie_word_embeddings", True),
        )
    except KeyError as missing:
        raise InputError(f"model: {path} has no {missing.args[0]!r}; give the config.json of a GPT-2") from None
    if given.get("n_inner") not in (None, 4 * config.emb_dim):
        raise InputError(f"model: {path}: n_inner {given['n_inner']!r} is not ours; {4 * config.emb_dim} is needed")
    return config


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise InputError(f"model: {path}: its configuration is no JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise InputError(f"model: {path}: its configuration is {type(parsed).__name__}; names and values are expected")
    return parsed


def _sizes(
    path: Path, stored: Mapping[str, Stored], tokens: str, positions: str, block: str, n_heads: int | None
) -> dict[str, int]:
    """The sizes that shapes tell, where no configuration does."""
    for name in (tokens, positions):
        if name not in stored:
            raise InputError(f"model: {path}: {name} is missing, and there is no configuration")
        if len(stored[name].shape) != 2:
            raise InputError(f"model: {path}: {name} has shape {stored[name].shape}; two sizes are expected")
    vocab_size, emb_dim = stored[tokens].shape
    heads = n_heads or HEADS.get(emb_dim)
    if heads is None:
        raise InputError(f"model: {path} does not say its n_heads, and emb_dim {emb_dim} is not GPT-2's; give n_heads")
    layers = {name.removeprefix(block).split(".")[0] for name in stored if name.startswith(block)}
    return {
        "vocab_size": vocab_size,
        "context_length": stored[positions].shape[0],
        "emb_dim": emb_dim,
        "n_heads": heads,
        "n_layers": len(layers),
    }


# --- what a file must hold


def _checked(
    path: Path, stored: Mapping[str, Stored], parts: list[Part], model: GPTModel, head: str, embedding: str
) -> Pretrained:
    """Raises InputError for an array that is missing, of another shape or kind, or left over."""
    state = model.state_dict()
    for part in parts:
        shape = _stored_shape(part, state[part.ours])
        if part.theirs not in stored:
            raise InputError(f"model: {path}: {part.theirs} {shape} is missing")
        found = stored[part.theirs]
        if tuple(found.shape) != shape:
            raise InputError(f"model: {path}: {part.theirs} has shape {tuple(found.shape)}, expected {shape}")
        if str(found.dtype) not in ("float16", "float32", "float64"):
            raise InputError(f"model: {path}: {part.theirs} is of {found.dtype}; float16, 32 or 64 is read")
    left = stored.keys() - {part.theirs for part in parts}
    if model.config.tied_head and head in left:
        if not _equal(stored[head], stored[embedding]):
            raise InputError(f"model: {path}: {head} differs from {embedding}, and the configuration says it is tied")
        left.remove(head)
    if left:
        name = min(left)
        raise InputError(f"model: {path}: {name} {tuple(stored[name].shape)} is not a part of this model")
    return Pretrained(path, stored, parts, model)


def _stored_shape(part: Part, ours: Array) -> tuple[int, ...]:
    """The shape that the file must have for one of our parameters."""
    shape = tuple(reversed(ours.shape)) if part.transposed else tuple(ours.shape)
    return shape if part.third is None else (*shape[:-1], 3 * shape[-1])


def _is_tied(stored: Mapping[str, Stored]) -> bool:
    return _equal(stored[HEAD.theirs], stored["wte.weight"])


def _equal(a: Stored, b: Stored) -> bool:
    if tuple(a.shape) != tuple(b.shape):
        return False
    return all(np.array_equal(piece, b[rows]) for rows, piece in pieces(a))


# --- out


def save_pretrained(directory: Path | str, model: GPTModel) -> Path:
    """Write a directory that Hugging Face's transformers load: model.safetensors and config.json.  Returns its path.

    Where the model has no qkv_bias, GPT-2's are zeros: the same function.  Raises InputError if the directory exists.
    """
    directory = Path(directory)
    if directory.exists():
        raise InputError(f"convert: {directory} exists already; give a new directory")
    work = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        save_file(_in_their_layout(model), work / "model.safetensors", {"format": "pt"})
    except SafetensorError as error:
        raise RunError(f"{work} could not be written ({error}); is the disk full?") from None
    (work / "config.json").write_text(json.dumps(_config_json(model.config), indent=2), encoding="utf-8")
    return work.rename(directory)


def _in_their_layout(model: GPTModel) -> dict[str, HostArray]:
    state = {name: to_host(array) for name, array in model.state_dict().items()}
    gathered: dict[str, list[HostArray]] = {}
    for part in gpt2_parts(model.config):
        ours = state.get(part.ours)
        if ours is None:  # a bias that the model does without
            ours = np.zeros(model.config.emb_dim, dtype=state["tok_emb.weight"].dtype)
        name = part.theirs if part.theirs == HEAD.theirs else PREFIX + part.theirs
        gathered.setdefault(name, []).append(ours.T if part.transposed else ours)
    return {name: np.ascontiguousarray(np.concatenate(arrays, axis=-1)) for name, arrays in gathered.items()}


def _config_json(config: GPTConfig) -> dict[str, Any]:
    last = config.vocab_size - 1  # <|endoftext|>, in GPT-2's tokenizer and in ours
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{name: ours for name, (ours, _) in AS_OURS.items()},
        "activation_function": TANH_GELU[0],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "resid_pdrop": config.drop_rate,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": last,
        "eos_token_id": last,
    }
