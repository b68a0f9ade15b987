"""Loading a model: Hugging Face's layout of GPT-2, OpenAI's TensorFlow checkpoint, and the package's own names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend.contract import Array
from ..errors import InputError
from ..gpt.config import GPTConfig, parameter_shapes
from ..gpt.model import GPTModel
from ..rng import Generator
from .config_files import differing_rates, from_config_json, from_hparams, from_metadata, from_shapes
from .gpt2_names import BUFFERS, HUGGING_FACE, NATIVE, PREFIX, Layout, WeightMapping, from_openai, gpt2_mappings
from .safetensors_file import DTYPES, StoredTensor, open_safetensors, open_shards, row_chunks
from .tf_checkpoint import open_tf_checkpoint

CONFIG, HPARAMS = "config.json", "hparams.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Overrides(NamedTuple):
    """Settings from the caller that replace or complete those of the files."""

    n_heads: int | None
    drop_rate: float | None


@dataclass(frozen=True)
class Pretrained:
    """Weights in files, checked but not read yet: the stored tensors, their mapping, and the model's configuration."""

    stored: Mapping[str, StoredTensor]
    mappings: list[WeightMapping]
    config: GPTConfig
    rates: Mapping[str, float]  # dropout rates by Hugging Face's names, if they differ

    def load(self) -> GPTModel:
        """Build the model in eval mode; weights are copied a few rows at a time, without a second copy in memory."""
        model = GPTModel(self.config, rng=_ZeroStream())
        state = model.state_dict()
        targets: dict[str, list[Array]] = {}  # three for query, key and value in one array, in this order
        for mapping in self.mappings:
            target = state[mapping.name].T if mapping.transposed else state[mapping.name]
            targets.setdefault(mapping.gpt2_name, []).append(target)
        for name, parts in targets.items():
            _copy(self.stored[name], parts)
        return model.eval()


def _copy(stored: StoredTensor, targets: list[Array]) -> None:
    """Copy an array (..., n C) into n targets (..., C)."""
    if len(stored.shape) == 1:
        stored = replace(stored, shape=(1, *stored.shape))
        targets = [target[None] for target in targets]
    C = targets[0].shape[-1]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which commands report in words
        for rows, piece in row_chunks(stored):
            for i, target in enumerate(targets):
                target[rows] = piece[:, i * C : (i + 1) * C]


class _ZeroStream(Generator):
    """Zeros as initial weights, since they are overwritten and lazily allocated; dropout draws as usual."""

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Any:
        return np.zeros(shape, dtype=np.float32)

    def normal(self, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, dtype=np.float32)


def load_weights(path: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> GPTModel:
    """Load a model from a file or directory in any supported layout, in eval mode.

    n_heads is needed without a configuration if emb_dim is not one of GPT-2's; drop_rate replaces the file's.
    Raises InputError, naming the file and the tensor, for files that cannot be read and for tensors that are missing,
    left over, or of another shape or dtype.  Warns if Hugging Face's config.json has several dropout rates, since a
    model here has one: without drop_rate it is resid_pdrop, which matters in training only.
    """
    opened = open_pretrained(path, n_heads, drop_rate)
    if opened.rates:
        warnings.warn(f"{several_rates(opened.rates)}; give drop_rate", stacklevel=2)
    return opened.load()


def several_rates(rates: Mapping[str, float]) -> str:
    """Describe dropout rates that differ, for a message."""
    return f"config.json has {', '.join(f'{n} {r}' for n, r in rates.items())}, and a model here one drop_rate for all"


def open_pretrained(path: Path | str, n_heads: int | None = None, drop_rate: float | None = None) -> Pretrained:
    """Check the files as load_weights does, without reading weights or warning; the result has the configuration."""
    path = Path(path)
    given = Overrides(n_heads, drop_rate)
    if not path.is_dir():
        return _from_safetensors(path, *open_safetensors(path), given)
    if (path / HPARAMS).exists():
        return _from_tensorflow(path, given)
    if (path / INDEX).exists() and not (path / SINGLE).exists():  # of both, Hugging Face uses the single file
        return _from_safetensors(path / INDEX, open_shards(path / INDEX), {}, given)
    path = path / SINGLE
    return _from_safetensors(path, *open_safetensors(path), given)


def is_pretrained(path: Path) -> bool:
    """Tell whether a path is a file, even a special one, or a directory in one of these layouts; else it is a run."""
    if path.exists() and not path.is_dir():
        return True
    return any((path / name).exists() for name in (CONFIG, HPARAMS, INDEX))


# --- the layouts


def _from_safetensors(
    path: Path, stored: Mapping[str, StoredTensor], metadata: Mapping[str, str], given: Overrides
) -> Pretrained:
    """Open Hugging Face's names, or the book's: from save_model, or a PyTorch state_dict saved as safetensors."""
    stored = _without_prefix(path, {name: array for name, array in stored.items() if not BUFFERS.fullmatch(name)})
    if NATIVE.tokens in stored:
        return _checked(path, stored, _native_config(path, stored, metadata, given.n_heads), NATIVE, given)
    if HUGGING_FACE.tokens in stored:
        opened = _checked(path, stored, _hugging_face_config(path, stored, given.n_heads), HUGGING_FACE, given)
        beside = path.with_name(CONFIG)
        several = given.drop_rate is None and beside.exists()
        return replace(opened, rates=differing_rates(beside)) if several else opened
    raise InputError(f"model: {path} has neither {NATIVE.tokens} nor {HUGGING_FACE.tokens}; give GPT-2's weights")


def _native_config(
    path: Path, stored: Mapping[str, StoredTensor], metadata: Mapping[str, str], n_heads: int | None
) -> GPTConfig:
    if "config" in metadata:
        return from_metadata(path, metadata["config"])
    qkv_bias, tied = "trf_blocks.0.att.W_query.bias" in stored, NATIVE.head not in stored
    return from_shapes(path, stored, NATIVE, n_heads, qkv_bias=qkv_bias, tied_head=tied)


def _hugging_face_config(path: Path, stored: Mapping[str, StoredTensor], n_heads: int | None) -> GPTConfig:
    beside = path.with_name(CONFIG)
    if beside.exists():
        return from_config_json(beside)
    tied = HUGGING_FACE.head not in stored or _equal(stored[HUGGING_FACE.head], stored[HUGGING_FACE.tokens])
    return from_shapes(path, stored, HUGGING_FACE, n_heads, qkv_bias=True, tied_head=tied)


def _without_prefix(path: Path, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Strip "transformer." from names.  Raises InputError for an array present both with and without it."""
    bare = {name.removeprefix(PREFIX): array for name, array in stored.items()}
    if len(bare) < len(stored):
        name = min(name for name in bare if name in stored and PREFIX + name in stored)
        raise InputError(f"model: {path} has both {name} and {PREFIX}{name}; leave one of them out")
    return bare


def _from_tensorflow(directory: Path, given: Overrides) -> Pretrained:
    config, prefix = from_hparams(directory / HPARAMS), directory / "model.ckpt"
    stored = open_tf_checkpoint(prefix)
    arrays = {from_openai(name): array for name, array in stored.items()}
    if len(arrays) < len(stored):
        raise InputError(f"model: {prefix} has an array twice under two names; download it again")
    for name, array in arrays.items():
        if len(array.shape) == 3 and array.shape[0] == 1:  # linear layers are stored as convolutions of width 1
            arrays[name] = replace(array, shape=array.shape[1:])
    return _checked(prefix, arrays, config, HUGGING_FACE, given)


# --- checks


def _checked(
    path: Path, stored: Mapping[str, StoredTensor], config: GPTConfig, layout: Layout, given: Overrides
) -> Pretrained:
    """Raise InputError for an array that is missing, left over, or of another shape or dtype."""
    if given.drop_rate is not None:
        config = replace(config, drop_rate=given.drop_rate)
    if config.n_layers > len(stored):
        raise InputError(
            f"model: {path}: expected {config.n_layers} layers, and the file has only {len(stored)} arrays"
        )
    shapes = parameter_shapes(config)
    mappings = gpt2_mappings(config) if layout is HUGGING_FACE else [WeightMapping(name, name) for name in shapes]
    for mapping in mappings:
        _check(path, stored, mapping.gpt2_name, _stored_shape(mapping, shapes[mapping.name]))
    left = stored.keys() - {mapping.gpt2_name for mapping in mappings}
    if config.tied_head and layout.head in left:
        if not _equal(stored[layout.head], stored[layout.tokens]):
            raise InputError(
                f"model: {path}: {layout.head} differs from {layout.tokens}, and the configuration says it is tied"
            )
        left.remove(layout.head)
    if left:
        name = min(left)
        raise InputError(f"model: {path}: {name} {stored[name].shape} is not a part of this model")
    return Pretrained(stored, mappings, config, rates={})


def _check(path: Path, stored: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...]) -> None:
    if name not in stored:
        raise InputError(f"model: {path}: {name} {shape} is missing")
    if stored[name].shape != shape:
        raise InputError(f"model: {path}: {name} has shape {stored[name].shape}, expected {shape}")
    if stored[name].kind not in DTYPES:
        raise InputError(f"model: {path}: {name} has dtype {stored[name].kind}; supported are {', '.join(DTYPES)}")


def _stored_shape(mapping: WeightMapping, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a parameter's shape in the file."""
    shape = tuple(reversed(shape)) if mapping.transposed else shape
    return shape if mapping.qkv_index is None else (*shape[:-1], 3 * shape[-1])


def _equal(a: StoredTensor, b: StoredTensor) -> bool:
    """Tell whether two matrices are equal; False for other shapes and unsupported dtypes."""
    if a.shape != b.shape or len(a.shape) != 2 or not {a.kind, b.kind} <= DTYPES.keys():
        return False
    return all(np.array_equal(piece, b[rows]) for rows, piece in row_chunks(a))
