"""nanograd-gpt evaluate: loss and perplexity of a text, or of a part of the run's own."""

from __future__ import annotations

import re
from math import exp
from pathlib import Path

import numpy as np
import pytest
from cli.commands import TEXT, fails, works

from nanograd_gpt.gpt.tokenizer import get_tokenizer
from nanograd_gpt.nn import functional as F
from nanograd_gpt.training.checkpoint import load_model, save_model
from nanograd_gpt.training.corpus import split_text

PARTS = ["train", "val", "test"]


def expected_loss(text: str, trained: Path, model_file: Path, batch_size: int = 1) -> tuple[float, int]:
    """The mean of the batches' mean losses, window by window; and how many windows there are."""
    model, ids = load_model(model_file), np.array(get_tokenizer(trained / "tokenizer.json").encode(text))
    losses = []
    for start in range(0, len(ids) - 16, 16):
        logits = model(ids[None, start : start + 16])
        losses.append(F.cross_entropy(logits.reshape(16, -1), ids[start + 1 : start + 17]).item())
    batches = [losses[i : i + batch_size] for i in range(0, len(losses), batch_size)]
    return float(np.mean([np.mean(batch) for batch in batches])), len(losses)


def numbers_in(printed: str) -> tuple[float, float]:
    loss = re.search(r"^loss +(\d+\.\d{6}) nats a token$", printed, re.MULTILINE)
    perplexity = re.search(r"^perplexity +(\d+\.\d\d) \(of 307 tokens\)$", printed, re.MULTILINE)
    assert loss
    assert perplexity
    return float(loss[1]), float(perplexity[1])


@pytest.mark.parametrize(("option", "split"), [([], "val"), *((["--split", name], name) for name in PARTS)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_part_of_the_runs_own_text_has_its_loss_and_perplexity(
    trained: Path, model_file: Path, data: Path, option: list[str], split: str, batch_size: int
) -> None:
    part = split_text(TEXT, 0.8, 0.1)[PARTS.index(split)]
    expected, windows = expected_loss(part, trained, model_file, batch_size)
    printed = works("evaluate", "--model", trained, *option, "--batch-size", batch_size)
    assert f"text        {data} ({split}): {windows} windows of 16 tokens" in printed.splitlines()
    loss, perplexity = numbers_in(printed)
    assert loss == pytest.approx(expected, abs=2e-6)
    assert perplexity == pytest.approx(exp(loss), rel=1e-4)


def test_any_other_text_can_be_evaluated(trained: Path, model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text(TEXT[::-1], encoding="utf-8")
    loss, _ = numbers_in(works("evaluate", "--model", trained, "--data", path))
    assert loss == pytest.approx(expected_loss(TEXT[::-1], trained, model_file)[0], abs=2e-6)
    assert loss > numbers_in(works("evaluate", "--model", trained))[0]


def test_a_model_file_is_evaluated_with_its_tokenizer_on_any_text(trained: Path, model_file: Path, data: Path) -> None:
    options = ["--tokenizer", trained / "tokenizer.json", "--data", data]
    printed = works("evaluate", "--model", model_file, *options)
    assert numbers_in(printed) == numbers_in(works("evaluate", "--model", trained, "--data", data))


def test_a_loss_too_large_for_its_perplexity_is_told_all_the_same(
    trained: Path, model_file: Path, tmp_path: Path, data: Path
) -> None:
    model = load_model(model_file)
    model.out_head.weight.data *= 1e5
    path = save_model(tmp_path / "large.safetensors", model)
    printed = works("evaluate", "--model", path, "--tokenizer", trained / "tokenizer.json", "--data", data)
    loss = re.search(r"^loss +(\d+\.\d+)", printed, re.MULTILINE)
    assert loss
    assert float(loss[1]) > 710
    assert re.search(r"^perplexity +inf", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tset"], "split: 'tset' is unknown; did you mean 'test'?"),
        (["--split", "val", "--data", "story"], "evaluate: --split is of the run's own text"),
        (["--data", "missing.txt"], "data: missing.txt does not exist"),
        (["--batch-size", "0"], "batch_size: 0 is not allowed"),
        (["--batch-size", "two"], "nanograd-gpt evaluate: argument --batch-size: invalid int value: 'two'"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused(trained: Path, options: list[str], message: str) -> None:
    assert fails("evaluate", "--model", trained, *options).startswith(message)


def test_a_text_too_short_for_a_window_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the sun", encoding="utf-8")
    message = fails("evaluate", "--model", trained, "--data", tmp_path / "short.txt")
    assert message.endswith("short.txt is too short for one window of 16 tokens; use a longer text")


def test_a_model_file_has_no_text_of_its_own(model_file: Path, trained: Path) -> None:
    message = fails("evaluate", "--model", model_file, "--tokenizer", trained / "tokenizer.json")
    assert message.startswith("evaluate: a model file has no text of its own")
