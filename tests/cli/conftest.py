"""Fixtures: a small text, and a run trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli import commands, undrawn
from cli.commands import TEXT, train, works

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.checkpoint import load_checkpoint, read_state, save_model


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run of 2 epochs with 5 updates each; its output is in printed.txt next to it."""
    directory = tmp_path_factory.mktemp("runs") / "trained"
    more = ["--epochs", 2, "--train-ratio", 0.8, "--test-ratio", 0.1, "--checkpoint-every", 4]
    printed = works(*train(directory, data, *more))
    directory.with_name("printed.txt").write_text(printed, encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def checkpoint(trained: Path) -> Path:
    return trained / "checkpoints" / "step_9"


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A file with the trained model only."""
    model = GPTModel(read_state(checkpoint)["config"])
    load_checkpoint(checkpoint, model)
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", model)


@pytest.fixture(autouse=True)
def quick_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time each part of a step once, not for a while: how long a run takes is of interest in tests/bench."""
    monkeypatch.setattr("nanograd_gpt.bench.estimate.TIMED_SECONDS", 0)
    monkeypatch.setattr("nanograd_gpt.bench.estimate.LONG_SECONDS", 0)  # every call is a long one, of which one will do


@pytest.fixture(autouse=True)
def no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip a run's figures and report, which take ten times as long as its training, but in tests marked `draws`."""
    if request.node.get_closest_marker("draws") is None:
        undrawn.leave_out(monkeypatch.setattr)
        monkeypatch.setattr(commands, "PROGRAM", [undrawn.__file__])
