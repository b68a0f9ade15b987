"""Opening a model by path or name, in the library and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nanograd_gpt as ng
from nanograd_gpt.errors import InputError
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run

SETTINGS = {"context_length": 16, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "max_steps": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    training = Run(preset("tiny").replace(SETTINGS), "cpu")
    list(training.steps())
    training.save_settings(directory)
    training.save(directory)
    return directory


def test_the_library_opens_whatever_the_command_line_opens(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoints" / "step_0"
    expected = ng.load_pretrained(run).state_dict()
    ng.save_pretrained(tmp_path / "theirs", ng.load_pretrained(run))
    for source in (checkpoint, checkpoint / "model.safetensors", str(run), tmp_path / "theirs"):
        model = ng.load_pretrained(source)
        assert not model.training
        for name, array in expected.items():
            np.testing.assert_array_equal(model.state_dict()[name], array)


@pytest.mark.parametrize("path", ["", "checkpoints/step_0", "checkpoints/step_0/model.safetensors"])
def test_a_checkpoint_has_the_tokenizer_of_its_run(run: Path, path: str) -> None:
    expected = ng.get_tokenizer(run / "tokenizer.json").n_vocab
    assert ng.pretrained_tokenizer(run / path).n_vocab == expected < 1000


def test_the_tokenizer_of_a_checkpoint_is_found_from_a_relative_path(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run / "checkpoints")
    assert ng.pretrained_tokenizer("step_0").n_vocab == ng.pretrained_tokenizer(run).n_vocab


def test_what_is_no_model_is_refused_with_all_that_would_be(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not exist; give a run's directory, a checkpoint, a model file, or GPT-2"
    ):
        ng.load_pretrained(tmp_path / "nothing")
