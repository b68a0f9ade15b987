"""nanograd-gpt train --weights: training from existing weights, with their sizes and tokenizer."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import COURSE, fails, works

from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer
from nanograd_gpt.training.checkpoint import load_checkpoint, load_model, read_state, save_model
from nanograd_gpt.training.config import fine_tuning, from_toml, preset
from nanograd_gpt.training.corpus import split_text
from nanograd_gpt.training.data import create_dataloader_v1
from nanograd_gpt.training.find_checkpoint import find_checkpoint
from nanograd_gpt.training.loss import calc_loss_loader
from nanograd_gpt.training.metrics import Event, read_metrics
from nanograd_gpt.training.sources import load_pretrained
from nanograd_gpt.weights.save import save_pretrained

GOLDENS = Path(__file__).parents[1] / "goldens"
ALL_OF_IT = ["--eval-iter", 1000]  # batches of an evaluation


def tune(directory: Path, text: Path, weights: Path, *more: object) -> list[object]:
    return ["train", "--out", directory, "--data", text, "--init-from", weights, *COURSE, "--epochs", 1, *more]


def config_of(run: Path) -> Any:
    return preset("tiny").replace(from_toml(run / "config.toml"))


def evaluations_of(run: Path) -> list[Event]:
    return read_metrics(run / "metrics.jsonl").evaluations


def model_of(run: Path) -> GPTModel:
    checkpoint = find_checkpoint(run).path
    model = GPTModel(read_state(checkpoint)["config"])
    load_checkpoint(checkpoint, model)
    return model


def losses_of(model: GPTModel, text: Path, tokenizer: Path, length: int) -> list[float]:
    """The losses of the training and of the validation part."""
    losses = []
    for part in split_text(text.read_text(encoding="utf-8"))[:2]:
        encoding = get_tokenizer(tokenizer)
        train = not losses
        loader = create_dataloader_v1(part, 2, length, length, False, drop_last=train, tokenizer=encoding)
        losses.append(calc_loss_loader(loader, model.eval(), "cpu"))
    return losses


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Another text of the same words."""
    path = tmp_path_factory.mktemp("other") / "other.txt"
    path.write_text(" ".join(reversed(data.read_text(encoding="utf-8").split())), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer(trained: Path) -> Path:
    return trained / "tokenizer.json"


# --- start and result


@pytest.mark.parametrize("length", [None, 8])
def test_the_first_evaluation_is_of_the_weights_as_they_were(
    trained: Path, model_file: Path, other: Path, tokenizer: Path, tmp_path: Path, length: int | None
) -> None:
    context = [] if length is None else ["--context-length", length]
    printed = works(*tune(tmp_path / "run", other, trained, *context, *ALL_OF_IT, "--drop-rate", 0.3))
    first, second, *_ = evaluations_of(tmp_path / "run")
    train_loss, val_loss = losses_of(load_model(model_file), other, tokenizer, length or 16)
    assert (first["step"], first["epoch"], first["tokens"]) == (-1, 0, 0)
    assert first["val_loss"] == val_loss
    if length is None:  # else each shuffled pass drops another last batch
        assert first["train_loss"] == pytest.approx(train_loss, rel=1e-6)
    assert second["step"] == 0
    assert second["val_loss"] != val_loss
    as_loaded = f"As loaded: Train loss {first['train_loss']:.3f}, Val loss {first['val_loss']:.3f}"
    assert as_loaded in printed.splitlines()
    assert f"weights     {trained}" in printed.splitlines()


def test_the_first_updates_loss_is_that_of_the_weights_on_its_batch(
    trained: Path, model_file: Path, other: Path, tokenizer: Path, tmp_path: Path
) -> None:
    whole_text = ["--batch-size", 1000, "--drop-rate", 0.0]  # too large a batch: no training at all
    assert "too few for a batch" in fails(*tune(tmp_path / "run", other, trained, *whole_text))
    train_text = split_text(other.read_text(encoding="utf-8"))[0]
    n = (len(get_tokenizer(tokenizer).encode(train_text)) - 1) // 16
    works(*tune(tmp_path / "run", other, trained, "--batch-size", n, "--drop-rate", 0.0))
    (step,) = read_metrics(tmp_path / "run" / "metrics.jsonl").steps
    loader = create_dataloader_v1(train_text, n, 16, 16, False, tokenizer=get_tokenizer(tokenizer))
    assert step["loss"] == pytest.approx(calc_loss_loader(loader, load_model(model_file), "cpu"), rel=1e-5)


@pytest.mark.parametrize("tied_head", [False, True])
def test_training_lowers_the_loss_of_the_weights(other: Path, tokenizer: Path, tmp_path: Path, tied_head: bool) -> None:
    config = GPTConfig(307, 16, 16, 2, 1, 0.0, qkv_bias=True, tied_head=tied_head)
    source = save_model(tmp_path / "model.safetensors", GPTModel(config, rng=Generator(5)))
    settings = ["--tokenizer", tokenizer, "--lr", 1e-2, "--epochs", 4, *ALL_OF_IT]
    works(*tune(tmp_path / "run", other, source, *settings))
    evaluations = evaluations_of(tmp_path / "run")
    assert evaluations[-1]["train_loss"] < evaluations[0]["train_loss"] - 1
    model = model_of(tmp_path / "run")
    assert model.config == config
    assert (model.out_head.weight is model.tok_emb.weight) is tied_head


def test_every_kind_of_source_gives_the_same_start(
    trained: Path, checkpoint: Path, model_file: Path, other: Path, tokenizer: Path, tmp_path: Path
) -> None:
    theirs = save_pretrained(tmp_path / "theirs", load_model(model_file))
    losses, hashes = [], []
    for i, source in enumerate((trained, checkpoint, model_file, theirs)):
        given = [] if source in (trained, checkpoint) else ["--tokenizer", tokenizer]
        works(*tune(tmp_path / str(i), other, source, *given, "--max-steps", 1))
        losses.append(evaluations_of(tmp_path / str(i))[0]["val_loss"])
        hashes.append(json.loads((tmp_path / str(i) / "environment.json").read_text())["weights_sha256"])
        assert config_of(tmp_path / str(i)).model.qkv_bias is (source == theirs)
        assert (tmp_path / str(i) / "tokenizer.json").read_bytes() == tokenizer.read_bytes()
    assert losses[0] == losses[1] == losses[2] == pytest.approx(losses[3], rel=1e-6)
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


def test_weights_without_a_run_have_gpt2s_tokenizer(other: Path, tmp_path: Path) -> None:
    config = GPTConfig(50257, 8, 4, 2, 1, 0.1, tied_head=True)
    source = save_pretrained(tmp_path / "theirs", GPTModel(config, rng=Generator(5)))
    works(*tune(tmp_path / "run", other, source, "--max-steps", 1))
    assert get_tokenizer(tmp_path / "run" / "tokenizer.json").n_vocab == 50257
    assert config_of(tmp_path / "run").data.tokenizer == "gpt2"
    works("generate", "--model", tmp_path / "run", "--prompt", "the", "--max-new-tokens", 3)


def test_weights_from_random_numbers_leave_no_trace(trained: Path) -> None:
    assert config_of(trained).training.weights == ""
    assert "weights_sha256" not in (trained / "environment.json").read_text(encoding="utf-8")
    assert evaluations_of(trained)[0]["step"] == 0


# --- its settings


def test_sizes_are_the_weights_and_small_steps_the_default(trained: Path, other: Path, tmp_path: Path) -> None:
    command = ["train", "--out", tmp_path / "run", "--data", other, "--weights", trained, "--max-steps", 1]
    works(*command)
    config, source = config_of(tmp_path / "run"), config_of(trained)
    assert config.model == source.model
    changes = {"data": str(other), "tokenizer": str(trained / "tokenizer.json"), "max_steps": 1}
    assert config.data == fine_tuning().replace(changes).data
    assert config.training == fine_tuning().replace({"max_steps": 1, "weights": str(trained)}).training


def test_dropout_context_and_course_can_be_given(trained: Path, other: Path, tmp_path: Path) -> None:
    options = ["--drop-rate", 0.5, "--context-length", 5, "--lr", 1e-3, "--max-steps", 1, "--emb-dim", 16]
    works(*tune(tmp_path / "run", other, trained, *options))
    config = config_of(tmp_path / "run")
    assert (config.model.drop_rate, config.model.context_length, config.training.lr) == (0.5, 5, 1e-3)
    assert model_of(tmp_path / "run").pos_emb.weight.shape == (5, 16)


def test_a_preset_gives_the_course_alone(trained: Path, other: Path, tmp_path: Path) -> None:
    command = ["train", "--out", tmp_path / "run", "--data", other, "--weights", trained, "--preset", "tiny"]
    works(*command, "--batch-size", 2, "--max-steps", 1, "--warmup-steps", 0)
    config = config_of(tmp_path / "run")
    assert config.training.lr == preset("tiny").training.lr
    assert config.model == config_of(trained).model


def test_it_can_be_done_again_from_its_config_toml(trained: Path, other: Path, tmp_path: Path) -> None:
    works(*tune(tmp_path / "run", other, trained))
    works("train", "--config", tmp_path / "run" / "config.toml", "--out", tmp_path / "again")
    assert evaluations_of(tmp_path / "again") == evaluations_of(tmp_path / "run")
    assert config_of(tmp_path / "again") == config_of(tmp_path / "run")


def test_a_dry_run_tells_the_weights_sizes_and_writes_nothing(trained: Path, other: Path, tmp_path: Path) -> None:
    printed = works(*tune(tmp_path / "run", other, trained, "--context-length", 8, "--dry-run")).splitlines()
    assert printed[0] == "model       1 layer, 16 channels, 2 heads, context 8: 13,216 parameters"
    assert printed[2] == f"weights     {trained}"
    assert len(printed) == 6
    assert [*tmp_path.iterdir()] == []


def test_its_directory_is_named_for_it(trained: Path, other: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    printed = works("train", "--weights", trained, "--data", other, *COURSE, "--dry-run")
    assert "directory   runs/fine-tuning" in printed.splitlines()


# --- resuming


@pytest.mark.parametrize("random", ["own", "torch"])
def test_it_goes_on_to_the_last_bit_though_its_source_is_gone(
    trained: Path, other: Path, tmp_path: Path, random: str
) -> None:
    source = Path(shutil.copytree(trained, tmp_path / "source"))
    options = ["--random", random, "--drop-rate", 0.2, "--max-norm", 1.0, "--lr", 1e-3]
    works(*tune(tmp_path / "whole", other, source, *options, "--epochs", 3))
    works(*tune(tmp_path / "part", other, source, *options, "--epochs", 3, "--max-steps", 4))
    shutil.rmtree(source)
    printed = works("train", "--resume", tmp_path / "part", "--max-steps", 0)
    assert "As loaded" not in printed
    part, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("part", "whole"))
    assert len(whole.steps) > 8
    assert [{**step, "seconds": 0} for step in part.steps] == [{**step, "seconds": 0} for step in whole.steps]
    assert part.evaluations == whole.evaluations
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [find_checkpoint(tmp_path / run).path / name for run in ("part", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()
    works("evaluate", "--model", tmp_path / "part")


def test_a_resumed_run_keeps_its_weights(trained: Path) -> None:
    message = fails("train", "--resume", trained, "--weights", trained)
    assert message.startswith("--resume: --init-from is fixed by the run")


def test_a_fine_tuned_run_is_a_source_too(trained: Path, other: Path, data: Path, tmp_path: Path) -> None:
    works(*tune(tmp_path / "first", other, trained, "--lr", 1e-2))
    works(*tune(tmp_path / "second", data, tmp_path / "first", "--max-steps", 1, *ALL_OF_IT))
    expected = losses_of(model_of(tmp_path / "first"), data, trained / "tokenizer.json", 16)[1]
    assert evaluations_of(tmp_path / "second")[0]["val_loss"] == expected


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context-length", 17], r"--context-length: 17 is longer than the weights'; choose 1 \.\. 16"),
        (["--context-length", 0], "--context-length: 0 is not allowed"),
        (["--emb-dim", 33], "--emb-dim: 33 differs from the weights', which is 16; leave it out"),
        (["--n-heads", 4], "--n-heads: 4 differs from the weights', which is 2; leave it out"),
        (["--n-layers", 2], "--n-layers: 2 differs from the weights', which is 1"),
        (["--vocab-size", 300], "--vocab-size: 300 differs from the weights', which is 307"),
        (["--qkv-bias"], "--qkv-bias: True differs from the weights', which is False"),
        (["--tied-head"], "--tied-head: True differs from the weights', which is False"),
        (["--drop-rate", 1.0], "--drop-rate: 1.0 is not allowed"),
        (["--tokenizer", "gpt2"], "--tokenizer: 'gpt2' has 50257 tokens, the weights .* 307; leave --tokenizer out"),
        (["--tokenizer", "own"], "--tokenizer: 'own' would be a new one, which does not fit the weights"),
        (["--tokenizer", "missing.json"], "--tokenizer: cannot read 'missing.json'"),
        (["--weights", ""], "--weights: no model is given; name one, or leave out --weights"),
        (["--weights", "missing"], "--weights: missing does not exist"),
        (["--weights", str(GOLDENS / "gpt2_tf")], "tokenizer: .*gpt2_tf has no tokenizer beside its weights; "),
        (["--book"], "--book: its training starts from random numbers"),
        (["--lr", 0.0], "--lr: 0.0 is not allowed"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_weights_is_refused(
    trained: Path, other: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    assert re.match(message, fails(*tune(tmp_path / "run", other, trained, *options)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[model]\nemb_dim = 32", "emb_dim in .*settings.toml: 32 differs from the weights', which is 16"),
        ('context_length = "8"', "context_length in .*settings.toml: '8' is not allowed; expected a value like"),
        ("n_layers = true", "n_layers in .*settings.toml: True is not allowed"),
        ("weights = 3", "weights in .*settings.toml: 3 is not allowed; expected a value like ''"),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_a_config_file_is_held_to_the_same(
    trained: Path, other: Path, tmp_path: Path, toml: str, message: str, given: bool
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(toml, encoding="utf-8")
    command = tune(tmp_path / "run", other, trained, "--config", file)
    if not given:
        command = [part for part in command if part not in ("--init-from", trained)]
        if "weights" not in toml:
            file.write_text(f"{toml}\n[training]\nweights = {json.dumps(str(trained))}", encoding="utf-8")
    elif "weights" in toml:
        works(*command, "--dry-run")  # the option comes before the file
        return
    assert re.match(message, fails(*command))


def test_weights_whose_tokenizer_is_gone_need_one(trained: Path, other: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(trained, tmp_path / "source"))
    (source / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert fails(*tune(tmp_path / "run", other, source)).startswith(f"tokenizer: cannot read '{source}/tokenizer.json'")
    works(*tune(tmp_path / "run", other, source, "--tokenizer", tmp_path / "tokenizer.json", "--max-steps", 1))


@pytest.mark.parametrize(("command", "option"), [("bench", "--weights"), ("info", "--init-from")])
def test_only_training_starts_from_weights(command: str, option: str, trained: Path) -> None:
    assert f"{option!r} is unknown" in fails(command, option, trained)


def test_weights_that_are_no_numbers_end_the_run_in_one_line(
    model_file: Path, other: Path, tokenizer: Path, tmp_path: Path
) -> None:
    model = load_pretrained(model_file)
    model.final_norm.scale.data[0] = np.nan
    source = save_model(tmp_path / "broken.safetensors", model)
    message = fails(*tune(tmp_path / "run", other, source, "--tokenizer", tokenizer))
    assert message == f"--init-from: {source}: the weight final_norm.scale is nan or infinite; use others"
    assert not (tmp_path / "run" / "checkpoints").exists()
