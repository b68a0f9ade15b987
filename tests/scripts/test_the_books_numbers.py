"""The book's printed numbers, except its training, which takes minutes and is stored as a result file."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training.small import TEXT

import nanograd_gpt as ng
from nanograd_gpt.rng import TorchStream
from nanograd_gpt.training.corpus import split_text

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "the_books_numbers.py"


@pytest.mark.slow
def test_untrained_numbers_and_samplings_are_the_published_ones():
    folder = os.environ.get("NANOGRAD_TEST_DATA")
    if folder is None:
        pytest.skip("needs the-verdict.txt in the folder that NANOGRAD_TEST_DATA names")
    command = [sys.executable, str(SCRIPT), "--quick", "--data", str(Path(folder) / "the-verdict.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "checked: every value is the published one"
    assert done.stdout.count(" published ") == 13


def test_a_difference_is_named():
    script = runpy.run_path(str(SCRIPT))
    script["compare"]("a number", 1.0, 2.0)
    script["compare"]("close enough", 1.0, 1.000001, tolerance=1e-5)
    assert script["differences"] == ["a number: 1.0, published 2.0"]


def test_the_committed_training_log_is_the_published_one_to_three_decimals():
    log = json.loads((ROOT / "benchmarks" / "results" / "book.json").read_text(encoding="utf-8"))
    ours = [[round(e["train_loss"], 3), round(e["val_loss"], 3)] for e in log["evaluations"]]
    assert [e["step"] for e in log["evaluations"]] == list(range(0, 90, 5))
    assert len(log["samples"]) == 10
    assert ours == log["published"]


# --- the trainer of appendix D


SMALL = {"vocab_size": 50257, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 1, "qkv_bias": False}
EPOCHS, BATCHES = 2, 9


def test_the_trainer_of_appendix_d_is_pytorchs(capsys):
    torch = pytest.importorskip("torch")
    theirs = runpy.run_path(str(ROOT / "benchmarks" / "book_in_pytorch.py"))
    tokenizer, text = ng.get_tokenizer("gpt2"), f"{TEXT} {TEXT}"
    config = {**SMALL, "drop_rate": 0.0}  # with dropout the random numbers depend on PyTorch's build
    torch.manual_seed(123)
    log = theirs["appendix_d"](
        theirs["GPTModel"](config), theirs["loaders_of"](text, tokenizer, 16), tokenizer, epochs=EPOCHS
    )
    printed_by_pytorch = capsys.readouterr().out

    script, rng = runpy.run_path(str(SCRIPT)), TorchStream(123)
    model = ng.GPTModel(config, rng=rng)
    loaders = [
        ng.create_dataloader_v1(part, 2, 16, 16, shuffle=train, drop_last=train, tokenizer=tokenizer, rng=rng)
        for part, train in zip(split_text(text), (True, False), strict=False)
    ]
    assert [len(loader) for loader in loaders] == [BATCHES, 1]
    reports = list(script["appendix_d"](model, loaders, EPOCHS))
    assert [r.lr for r in reports] == log["rates"]
    warmup = int(0.2 * EPOCHS * BATCHES)
    assert [r.grad_norm is None for r in reports] == [step <= warmup for step in range(EPOCHS * BATCHES)]
    assert max(float(r.grad_norm) for r in reports if r.grad_norm is not None) > 1
    ours = [loss for r in reports if r.evaluation is not None for loss in r.evaluation]
    expected = [e[name] for e in log["evaluations"] for name in ("train_loss", "val_loss")]
    np.testing.assert_allclose(ours, expected, rtol=2e-6)
    assert len({round(loss, 3) for loss in ours}) == len(ours) == 8
    assert printed_by_pytorch.count("Train loss") == 4


def test_a_training_is_held_against_every_log_there_is(capsys):
    script = runpy.run_path(str(SCRIPT))
    rng, tokenizer = TorchStream(123), ng.get_tokenizer("gpt2")
    model = ng.GPTModel({**SMALL, "drop_rate": 0.1}, rng=rng)
    loader = ng.create_dataloader_v1(TEXT[:400], 2, 16, 16, tokenizer=tokenizer, rng=rng)
    reports = [r for r in script["appendix_d"](model, [loader, loader], 1) if r.evaluation is not None]
    right = [[round(loss, 3) for loss in r.evaluation] for r in reports]
    wrong = [[right[0][0], right[0][1] + 0.001], *right[1:]]
    logs = [script["Log"]("published", wrong, exact=1), script["Log"]("PyTorch", wrong, exact=0)]
    facts = script["compare_training"](iter(reports), model, tokenizer, logs)
    assert [e["step"] for e in facts["evaluations"]] == [r.global_step for r in reports]
    assert script["differences"] == [f"step 0, losses: {right[0]}, published {wrong[0]}"]
    shown = capsys.readouterr().out
    assert shown.count(" PyTorch [") == shown.count(" published [") == len(right)


def test_the_committed_log_of_appendix_d_is_pytorchs_and_the_published_one_to_a_last_digit():
    script = runpy.run_path(str(SCRIPT))
    ours = json.loads((ROOT / "benchmarks" / "results" / "appendix_d.json").read_text(encoding="utf-8"))
    theirs = json.loads(script["PYTORCH"].read_text(encoding="utf-8"))
    assert [e["step"] for e in ours["evaluations"]] == [e["step"] for e in theirs["evaluations"]] == [*range(0, 135, 5)]
    ours, theirs = (
        [[round(e[k], 3) for k in ("train_loss", "val_loss")] for e in log["evaluations"]] for log in (ours, theirs)
    )
    published = [[float(x) for x in pair.split("/")] for pair in script["LOG_OF_APPENDIX_D"].split()]
    assert [val_loss for _, val_loss in ours[:2]] == [10.939, 9.461]
    assert ours[:5] == theirs[:5] == published[:5]
    np.testing.assert_allclose(ours, published, rtol=0, atol=script["LAST_DIGIT"])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=script["LAST_DIGIT"])
