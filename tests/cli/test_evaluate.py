"""nanograd-gpt evaluate: loss, perplexity and bits per byte of a text, or of a part of the run's text."""

from __future__ import annotations

import re
from math import exp, log
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cli.commands import TEXT, fails, train, works

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer
from nanograd_gpt.training.checkpoint import load_model, save_model
from nanograd_gpt.training.corpus import split_text

PARTS = ["train", "val", "test"]


class Printed(NamedTuple):
    loss: float
    perplexity: float
    bits: float
    n_bytes: int


def expected_loss(text: str, trained: Path, model_file: Path, stride: int = 16) -> tuple[float, int]:
    """The mean loss of all tokens but the first, each in the first window with it; and the number of windows."""
    model, ids = load_model(model_file), np.array(get_tokenizer(trained / "tokenizer.json").encode(text))
    losses: list[float] = []
    windows = 0
    while len(losses) < len(ids) - 1:
        start = windows * stride
        targets = ids[start + 1 : start + 17]
        logits = model(ids[None, start : start + len(targets)])
        log_probabilities = F.log_softmax(logits).data[0, np.arange(len(targets)), targets]
        losses += (-log_probabilities[len(losses) - start :]).tolist()  # of the tokens not in an earlier window
        windows += 1
    return float(np.mean(losses)), windows


def numbers_in(printed: str) -> Printed:
    loss = re.search(r"^loss +(\d+\.\d{6}) nats per token$", printed, re.MULTILINE)
    perplexity = re.search(r"^perplexity +(\d+\.\d\d) \(vocabulary 307\)$", printed, re.MULTILINE)
    bits = re.search(r"^compressed +(\d+\.\d{6}) bits per byte \(of (\d+) bytes\)$", printed, re.MULTILINE)
    assert loss
    assert perplexity
    assert bits
    return Printed(float(loss[1]), float(perplexity[1]), float(bits[1]), int(bits[2]))


@pytest.mark.parametrize(("option", "split"), [([], "val"), *((["--split", name], name) for name in PARTS)], ids=str)
@pytest.mark.parametrize("stride", [None, 1, 5])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_part_of_the_runs_own_text_has_its_loss_perplexity_and_bits(
    trained: Path, model_file: Path, data: Path, option: list[str], split: str, stride: int | None, batch_size: int
) -> None:
    part = split_text(TEXT, 0.8, 0.1)[PARTS.index(split)]
    ids = get_tokenizer(trained / "tokenizer.json").encode(part)
    expected, windows = expected_loss(part, trained, model_file, stride or 16)
    strides = [] if stride is None else ["--stride", stride]
    printed = works("evaluate", "--model", trained, *option, *strides, "--batch-size", batch_size)
    done = f"{len(ids) - 1} tokens predicted in {windows} windows of 16, stride {stride or 16}"
    assert printed.splitlines()[0] == f"text        {data} ({split}): {done}"
    loss, perplexity, bits, n_bytes = numbers_in(printed)
    assert loss == pytest.approx(expected, abs=2e-6)
    assert perplexity == pytest.approx(exp(loss), rel=1e-4)
    first = get_tokenizer(trained / "tokenizer.json").decode(ids[:1])
    assert n_bytes == len(part) - len(first)
    assert bits == pytest.approx(loss * (len(ids) - 1) / log(2) / n_bytes, abs=2e-5)


def test_stride_0_is_the_context_length_as_in_train(trained: Path) -> None:
    assert works("evaluate", trained, "--stride", 0) == works("evaluate", trained, "--stride", 16)


def test_the_test_part_of_a_run_without_one_is_refused(tmp_path: Path, data: Path) -> None:
    works(*train(tmp_path / "run", data, "--max-steps", 1))
    message = fails("evaluate", tmp_path / "run", "--split", "test")
    assert message == (
        f"--split: {tmp_path / 'run'} has no test part; train it with --test-ratio, or choose train or val"
    )


def test_any_other_text_can_be_evaluated(trained: Path, model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text(TEXT[::-1], encoding="utf-8")
    loss = numbers_in(works("evaluate", "--model", trained, "--data", path)).loss
    assert loss == pytest.approx(expected_loss(TEXT[::-1], trained, model_file)[0], abs=2e-6)


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
        (["--split", "tset"], "--split: 'tset' is unknown; did you mean 'test'?"),
        (["--split", "val", "--data", "story"], "evaluate: --split selects a part of the run's own text"),
        (["--data", "missing.txt"], "--data: missing.txt does not exist"),
        (["--batch-size", "0"], "--batch-size: 0 is not allowed"),
        (["--stride", "17"], "--stride: 17 is not allowed; choose 1 .. 16, the context length"),
        (["--stride", "-1"], "--stride: -1 is not allowed"),
        (["--stride", "1.5"], "nanograd-gpt evaluate: argument --stride: invalid int value: '1.5'"),
        (["--batch-size", "two"], "nanograd-gpt evaluate: argument --batch-size: invalid int value: 'two'"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused(trained: Path, options: list[str], message: str) -> None:
    assert fails("evaluate", "--model", trained, *options).startswith(message)


def test_two_tokens_are_text_enough_and_one_is_not(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("zq", encoding="utf-8")
    assert ": 1 token predicted in 1 window of 16, stride 16" in works("evaluate", "--model", trained, "--data", path)
    path.write_text("z", encoding="utf-8")
    message = fails("evaluate", "--model", trained, "--data", path)
    assert message == f"--data: {path} has 1 token, at least 2 are needed; use a longer text"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_fail_in_one_line(
    trained: Path, model_file: Path, tmp_path: Path, data: Path, value: float
) -> None:
    model = load_model(model_file)
    model.final_norm.scale.data[3] = value
    path = save_model(tmp_path / "broken.safetensors", model)
    options = ["--tokenizer", trained / "tokenizer.json", "--data", data]
    message = fails("evaluate", "--model", path, *options, code=1)
    assert message == f"evaluate: the loss is nan: {path} has weights that are not finite; use others"


def test_a_runs_own_text_that_has_changed_since_is_not_taken_for_it(tmp_path: Path, data: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(data.read_text(encoding="utf-8"), encoding="utf-8")
    works(*train(tmp_path / "run", text, "--max-steps", 1))
    works("evaluate", "--model", tmp_path / "run")
    text.write_text("once more: " + text.read_text(encoding="utf-8"), encoding="utf-8")
    assert "has changed since the run" in fails("evaluate", "--model", tmp_path / "run")
    works("evaluate", "--model", tmp_path / "run", "--data", text)


def test_a_model_file_has_no_text_of_its_own(model_file: Path, trained: Path) -> None:
    message = fails("evaluate", "--model", model_file, "--tokenizer", trained / "tokenizer.json")
    assert message.startswith("evaluate: a model file does not record its training text")
