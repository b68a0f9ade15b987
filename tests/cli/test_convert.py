"""nanograd-gpt convert; and generate and info with every layout of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli.commands import fails, works

from nanograd_gpt.training.sources import load_pretrained

GOLDENS = Path(__file__).parents[1] / "goldens"
PROMPT = ["--prompt", "the sun rose", "--max-new-tokens", 12]


def test_there_and_back_every_weight_is_the_same(tmp_path: Path) -> None:
    source, file, directory = GOLDENS / "gpt2_tied", tmp_path / "ours.safetensors", tmp_path / "theirs"
    assert works("convert", source, file) == f"{file}: {load_pretrained(source).n_parameters:,} parameters\n"
    works("convert", file, directory)
    first, last = load_pretrained(source), load_pretrained(directory)
    assert first.config == last.config
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(last.state_dict()[name], array)


def test_openais_checkpoint_goes_into_either(tmp_path: Path) -> None:
    for target in (tmp_path / "ours.safetensors", tmp_path / "theirs"):
        works("convert", GOLDENS / "gpt2_tf", target)
        assert load_pretrained(target).config.tied_head


@pytest.mark.parametrize("source", ["trained", "checkpoint", "model_file"])
def test_a_trained_model_writes_the_same_text_in_their_layout(
    source: str, trained: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    works("convert", request.getfixturevalue(source), tmp_path / "theirs")
    expected = works("generate", "--model", trained, *PROMPT)
    tokenizer = ["--tokenizer", trained / "tokenizer.json"]
    assert works("generate", "--weights", tmp_path / "theirs", *PROMPT, *tokenizer) == expected
    assert "vocab_size       307" in works("info", tmp_path / "theirs").splitlines()


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    target.write_bytes(b"mine")
    assert fails("convert", GOLDENS / "gpt2_tied", target) == f"convert: {target} exists already; give a new name"
    assert target.read_bytes() == b"mine"


def test_an_empty_directory_is_a_target_as_it_is_for_train(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    works("convert", GOLDENS / "gpt2_tied", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "model.safetensors").is_file()
    assert fails("convert", GOLDENS / "gpt2_tied", tmp_path / "theirs").endswith("exists already; give a new name")


def test_biases_that_their_layout_adds_are_mentioned(model_file: Path, tmp_path: Path) -> None:
    line = f"{tmp_path / 'theirs'}: with query, key and value biases of 0, which this layout needs\n"
    assert line in works("convert", model_file, tmp_path / "theirs")
    assert line.replace("theirs", "back") not in works("convert", tmp_path / "theirs", tmp_path / "back")


def test_a_target_that_cannot_be_written_is_named_itself(model_file: Path) -> None:
    message = fails("convert", model_file, "/proc/x.safetensors", code=1)
    assert "/proc" in message
    assert ".partial" not in message
    assert ".tmp" not in message


def test_a_target_named_as_a_pickle_is_refused(tmp_path: Path) -> None:
    message = fails("convert", GOLDENS / "gpt2_tied", tmp_path / "out.pt")
    assert message.endswith(f"out.pt: weights are written as safetensors; name it {tmp_path / 'out.safetensors'}")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "command", [["convert"], ["generate", "--weights"], ["info"], ["evaluate", "--model"]], ids=str
)
def test_weights_that_are_no_weights_are_refused(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK\x03\x04")
    target = [tmp_path / "target"] if command == ["convert"] else []
    assert "is a pickle" in fails(*command, path, *target)
    np.savez(tmp_path / "mlp.npz", weight=np.ones(3))
    assert f"{tmp_path / 'mlp.npz'} is a file of NumPy's" in fails(*command, tmp_path / "mlp.npz", *target)
    assert not (tmp_path / "target").exists()
