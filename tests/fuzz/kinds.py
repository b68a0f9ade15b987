"""The kinds of files that the package reads: a good one of each, how to load it, and which loads are protected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from cli.commands import TEXT, nanograd, train
from fuzz.mutations import OF_BYTES, Mutation, of_header, of_json, of_lines, of_toml
from weights.tf_files import write_index, write_openai

import nanograd_gpt as ng
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.tokenizer.encoding import encode, padding_ids
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, save_tokenizer
from nanograd_gpt.training.checkpoint import load_checkpoint
from nanograd_gpt.training.corpus import load_text
from nanograd_gpt.training.find_checkpoint import find_checkpoint
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_settings import run_settings
from nanograd_gpt.training.run_state import run_state
from nanograd_gpt.training.sources import pretrained_tokenizer
from nanograd_gpt.viz.captions import loss_caption, training_caption
from nanograd_gpt.viz.curves import evaluation_curves
from nanograd_gpt.viz.report import write_page
from nanograd_gpt.viz.run_files import read_run
from nanograd_gpt.weights.safetensors_file import open_safetensors
from nanograd_gpt.weights.save import save_pretrained
from nanograd_gpt.weights.tf_checkpoint import _pairs  # to write a damaged index with valid checksums
from nanograd_gpt.weights.write_safetensors import write_safetensors

SAMPLE = "the sun rose, é 12\n"


@dataclass
class Kind:
    """A file to damage, and the load that must survive it."""

    name: str
    file: Path
    load: Callable[[], object]  # its result compares equal to that of the undamaged file
    mutations: list[Mutation] = field(default_factory=lambda: OF_BYTES)
    has_checksum: bool = False  # so that a damaged file never loads with another result
    seal: Callable[[], object] = lambda: None  # makes checksums valid after the damage, if there are any to make


def build(directory: Path) -> list[Kind]:
    """Write one good file of each kind into a directory."""
    (directory / "text.txt").write_text(TEXT, encoding="utf-8")
    run = directory / "run"
    with patch("nanograd_gpt.cli.train.write_figures", lambda run: []), patch("nanograd_gpt.cli.train.check_figures"):
        result = nanograd(*train(run, directory / "text.txt", "--max-steps", 4))
    assert result.code == 0, result
    model, tokenizer = ng.load_pretrained(run), get_tokenizer(run / "tokenizer.json")
    theirs = GPTModel({**model.config.to_dict(), "qkv_bias": True, "tied_head": True}, rng=ng.Generator(1))
    (directory / "own").mkdir()
    ng.save_model(directory / "own" / "model.safetensors", model)
    save_pretrained(directory / "hugging", theirs, tokenizer)
    _write_shards(directory / "shards", directory / "hugging", theirs)
    write_openai(directory / "openai", theirs)
    save_tokenizer(tokenizer, directory / "tokenizer.json")
    return [
        *_of_a_run(run),
        *_of_a_checkpoint(find_checkpoint(run).path),
        *_of_weights(directory),
        *_of_tokenizers(directory),
        Kind(
            "settings (--config)", run / "config.toml", lambda: _info(run / "config.toml"), [*OF_BYTES, *[of_toml] * 6]
        ),
        Kind("text", directory / "text.txt", lambda: encode(load_text(str(directory / "text.txt")), tokenizer)),
    ]


# --- kinds


def _of_a_run(run: Path) -> Iterator[Kind]:
    page, tokenizer = (lambda: _page(run)), get_tokenizer(run / "tokenizer.json")

    def built() -> object:
        found = find_checkpoint(run)
        config = run_settings(run, found.path, found.state).config
        return Run(config, "cpu", tokenizer, config.model.vocab_size).total_steps

    yield Kind("run's config.toml", run / "config.toml", built, [*OF_BYTES, *[of_toml] * 6])
    yield Kind("metrics.jsonl", run / "metrics.jsonl", page, [*OF_BYTES, *[of_lines] * 12])
    yield Kind("environment.json", run / "environment.json", page, [*OF_BYTES, *[of_json] * 6])
    yield Kind("surprise.json", run / "surprise.json", page, [*OF_BYTES, *[of_json] * 6])
    yield Kind("snapshots.json", run / "snapshots.json", page, [*OF_BYTES, *[of_json] * 6])


def _of_a_checkpoint(path: Path) -> Iterator[Kind]:
    def load() -> object:
        found = find_checkpoint(path)
        own = run_state(found.path, found.state)
        model = GPTModel(found.state["config"])
        optimizer = ng.AdamW(model.parameters())
        load_checkpoint(found.path, model, optimizer)
        model.rng.set_state(own.data_stream)
        if own.progress.epoch_stream is not None:
            model.rng.set_state(own.progress.epoch_stream)
        return _digest(model), json.dumps(found.state), [array.tobytes() for array in optimizer.state_dict()["exp_avg"]]

    def seal() -> None:
        hashes = {f.name: sha256(f.read_bytes()).hexdigest() for f in path.iterdir() if f.name != "MANIFEST.json"}
        (path / "MANIFEST.json").write_text(json.dumps(hashes), encoding="utf-8")

    yield Kind("manifest", path / "MANIFEST.json", load, [*OF_BYTES, *[of_json] * 3], has_checksum=True)
    for name in ("model.safetensors", "optimizer.safetensors"):
        yield Kind(f"checkpoint's {name}", path / name, load, [*OF_BYTES, of_header], has_checksum=True)
        yield Kind(f"sealed {name}", path / name, load, [of_header, flip_header], seal=seal)
    yield Kind("checkpoint's state.json", path / "state.json", load, [*OF_BYTES, of_json], has_checksum=True)
    yield Kind("sealed state.json", path / "state.json", load, [of_json], seal=seal)


def flip_header(raw: bytes, random: Any) -> bytes:
    size = 8 + int.from_bytes(raw[:8], "little")
    return random.choice(OF_BYTES)(raw[:size], random) + raw[size:]


def _of_weights(directory: Path) -> Iterator[Kind]:
    def loaded(path: Path) -> Callable[[], object]:
        return lambda: _digest(ng.load_pretrained(path))

    def file(name: str, path: str, mutations: list[Mutation], protected: bool, source: str) -> Kind:
        return Kind(name, directory / path, loaded(directory / source), mutations, protected)

    json_, header = [*OF_BYTES, *[of_json] * 6], [*OF_BYTES, *[of_header] * 3]
    yield file("weights of ours", "own/model.safetensors", header, True, "own/model.safetensors")
    yield file("Hugging Face's weights, by us", "hugging/model.safetensors", header, True, "hugging")
    yield file("Hugging Face's config.json", "hugging/config.json", json_, False, "hugging")
    yield file("index of shards", "shards/model.safetensors.index.json", json_, False, "shards")
    yield file("shard", "shards/b.safetensors", header, True, "shards")
    yield file("TensorFlow's index", "openai/model.ckpt.index", OF_BYTES, True, "openai")
    yield file(
        "TensorFlow's index, sealed", "openai/model.ckpt.index", [_of_index(directory / "openai")], False, "openai"
    )
    yield file("TensorFlow's data", "openai/model.ckpt.data-00000-of-00001", OF_BYTES, True, "openai")
    yield file("hparams.json", "openai/hparams.json", json_, False, "openai")


def _of_tokenizers(directory: Path) -> Iterator[Kind]:
    def used(path: Path) -> Callable[[], object]:
        return lambda: _used(get_tokenizer(path) if path.is_file() else pretrained_tokenizer(path))

    own = directory / "tokenizer.json"

    def seal() -> None:
        try:
            document = json.loads(own.read_bytes())
        except RecursionError:  # nested too deep to be sealed
            return
        if isinstance(document, dict) and document.pop("sha256", None):
            kept = {key: value for key, value in document.items() if key != "format"}
            digest = sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
            own.write_text(json.dumps({**document, "sha256": digest}), encoding="utf-8")

    yield Kind("tokenizer of ours", own, used(own), [*OF_BYTES, of_json], has_checksum=True)
    yield Kind("tokenizer of ours, sealed", own, used(own), [of_json], seal=seal)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = directory / "hugging" / name
        yield Kind(f"Hugging Face's {name}", path, used(directory / "hugging"), [*OF_BYTES, *[of_json] * 6])
    vocab = directory / "hugging" / "vocab.json"
    yield Kind("vocab.json", vocab, used(vocab), [*OF_BYTES, *[of_json] * 6])
    yield Kind("merges.txt", directory / "hugging" / "merges.txt", used(vocab))


# --- loads


def _digest(model: GPTModel) -> str:
    digest = sha256(json.dumps(model.config.to_dict()).encode())
    for name, array in model.state_dict().items():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _used(tokenizer: Any) -> object:
    ids = encode(SAMPLE, tokenizer)
    padding_ids(tokenizer, tokenizer.n_vocab)
    return ids, ng.token_ids_to_text(ids, tokenizer)


def _info(path: Path) -> object:
    result = nanograd("info", "--config", path)
    if result.code:
        assert result.err.startswith("error: "), result
        assert result.err.count("\n") == 1, result
        assert "\x1b" not in result.err, result
        raise InputError(result.err)
    return result.out


def _page(run: Path) -> object:
    """The report without figures, which take seconds, but with all that is computed for them."""
    with patch("nanograd_gpt.viz.report._figures", lambda run, wide: []):
        files = read_run(run)
        training_caption(files.metrics, files.drop_rate)
        loss_caption(evaluation_curves(files.metrics))
        return write_page(files, run, run).read_bytes()


# --- files


def _write_shards(directory: Path, like: Path, model: GPTModel) -> None:
    shutil.copytree(like, directory)
    (directory / "model.safetensors").unlink()
    arrays = open_safetensors(like / "model.safetensors")[0]
    names = sorted(arrays)
    places = {name: "ab"[i % 2] + ".safetensors" for i, name in enumerate(names)}
    for shard in sorted(set(places.values())):
        tensors = {name: [arrays[name][:]] for name in names if places[name] == shard}
        write_safetensors(directory / shard, tensors, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _of_index(directory: Path) -> Mutation:
    """Damage to the values of TensorFlow's index, before its checksums are made."""

    def mutation(raw: bytes, random: Any) -> bytes:
        pairs = {key.decode(): value for key, value in _pairs(raw)}
        for _ in range(random.choice([1, 1, 4])):
            name = random.choice(sorted(pairs))
            value = random.choice(OF_BYTES)(pairs.pop(name), random)
            pairs[random.choice([name, name, name, "x" * 300, name + "/\x1b", "é"])] = value
        if any(len(value) > 1000 for value in pairs.values()) or not pairs:
            return raw[:-1]
        prefix = directory / "sealed"
        write_index(prefix, dict(sorted(pairs.items())))
        return prefix.with_name("sealed.index").read_bytes()

    return mutation


@contextmanager
def damaged(kind: Kind, content: bytes) -> Iterator[None]:
    """The kind's file with other content in this block; what sealing it has changed is undone too."""
    before = {path: path.read_bytes() for path in kind.file.parent.iterdir() if path.is_file()}
    kind.file.write_bytes(content)
    try:
        kind.seal()
    except ValueError:  # what is not JSON has no checksum to make valid
        kind.file.write_bytes(content)
    try:
        yield
    finally:
        for path, whole in before.items():
            if path == kind.file or path.read_bytes() != whole:
                path.write_bytes(whole)
