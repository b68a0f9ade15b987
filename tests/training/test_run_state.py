"""A checkpoint whose state.json is damaged though its hash is right, as an attacker or a faulty tool leaves it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from training.small import one_line, small_model

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.training.checkpoint import load_checkpoint, read_state, save_checkpoint
from nanograd_gpt.training.run_state import run_state

PROGRESS = {"epoch": 1, "batch": 2, "global_step": 5, "tokens_seen": 64, "epoch_stream": Generator(1).state()}
OWN = {"progress": PROGRESS, "data_stream": Generator(2).state(), "data_sha256": "a", "tokenizer_sha256": "b"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = small_model()
    return save_checkpoint(tmp_path / "checkpoints" / "step_5", model, AdamW(model.parameters()), OWN)


def sealed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change state.json, and its hash with it."""
    state = json.loads((path / "state.json").read_bytes())
    change(state)
    (path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    hashes = json.loads((path / "MANIFEST.json").read_bytes())
    hashes["state.json"] = sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "MANIFEST.json").write_text(json.dumps(hashes), encoding="utf-8")


def loaded(path: Path) -> None:
    state = read_state(path)
    model = GPTModel(state["config"])
    load_checkpoint(path, model, AdamW(model.parameters()))
    own = run_state(path, state)
    model.rng.set_state(own.data_stream)


def test_a_state_comes_back(saved: Path) -> None:
    loaded(saved)
    own = run_state(saved, read_state(saved))
    assert (own.progress.global_step, own.progress.best_step, own.data_sha256) == (5, None, "a")


VALUES: list[Any] = [None, True, "x", -2, 1.5, [], [[1]], {"a": 1}, 2**63]
PLACES = [
    ("config",), ("config", "emb_dim"), ("config", "vocab_size"), ("config", "n_layers"), ("config", "drop_rate"),
    ("model_stream",), ("model_stream", "seed"), ("model_stream", "calls"), ("model_stream", "kind"),
    ("optimizer", "settings"), ("optimizer", "settings", "betas"), ("optimizer", "settings", "lr"),
    ("optimizer", "steps"), ("optimizer", "steps", "tok_emb.weight"), ("optimizer", "groups"),
    ("progress",), ("progress", "epoch"), ("progress", "global_step"), ("progress", "best_step"),
    ("progress", "best_val_loss"), ("data_stream",), ("data_stream", "stream"), ("data_sha256",), ("schema",),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_value_of_another_type_is_refused_in_one_line_or_is_valid(saved: Path, place: tuple[str, ...]) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    refused = 0
    for value in VALUES:

        def change(state: dict[str, Any], value: Any = value) -> None:
            *path, last = place
            for key in path:
                state = state[key]
            state[last] = value

        sealed(saved, change)
        try:
            loaded(saved)
        except InputError as error:
            refused += "\n" not in str(error)
        for name, content in before.items():
            (saved / name).write_bytes(content)
    assert refused >= 5


def test_a_state_that_no_run_wrote_is_not_a_runs(saved: Path) -> None:
    sealed(saved, lambda state: state.pop("progress"))
    with pytest.raises(InputError, match="has no progress, so it is not a run's") as error:
        run_state(saved, read_state(saved))
    assert str(saved) in one_line(error)


@pytest.mark.parametrize("size", ["vocab_size", "context_length", "emb_dim", "n_layers"])
def test_sizes_beyond_the_weights_are_refused_before_memory_is_taken(saved: Path, size: str) -> None:
    sealed(saved, lambda state: state["config"].update({size: 10**8 if size != "emb_dim" else 10**5}))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="configurations of its weights and of its state differ"):
            read_state(saved)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stream", [Generator(1), TorchStream(1)], ids=["own", "torch"])
def test_a_stream_takes_no_damaged_state_and_keeps_its_own(stream: Generator | TorchStream) -> None:
    whole = stream.state()
    for name in whole:
        for value in (None, "x", -1, [], [1, 2], 2**70, {"a": 1}):
            if name == "next_normal" and value in (None, -1, 2**70):
                continue
            with pytest.raises(InputError, match="random state: "):
                stream.set_state({**whole, name: value})
            assert stream.state() == whole
    for state in (None, [], "philox"):
        with pytest.raises(InputError, match="random state: kind None"):
            stream.set_state(state)
