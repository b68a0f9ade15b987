"""The probabilities of a run's texts, for its report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpt.tiny import TINY, ids_of

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.evaluation import evaluate_text
from nanograd_gpt.training.surprise import N_TOKENS, token_probabilities, write_surprise

TEXT = "the sun rose over \x1b[31m 界 <b>\n" * 40


def model_of(vocab_size: int = TINY.vocab_size, **changed: Any) -> GPTModel:
    return GPTModel({**TINY.to_dict(), "vocab_size": vocab_size, **changed}, rng=Generator(1))


@pytest.mark.parametrize("n", [2, 6, 7, 8, 20])
@pytest.mark.parametrize("context_length", [1, 6])
def test_they_are_those_of_the_texts_loss(n: int, context_length: int) -> None:
    model, ids = model_of(context_length=context_length, drop_rate=0.5), ids_of((n,))
    found = token_probabilities(model, ids)
    assert found.shape == (n - 1,)
    assert -np.log(found).sum() == pytest.approx(evaluate_text(model, ids).nats, rel=1e-5)
    assert model.training, "its mode is restored"


def run_of(model: GPTModel, tokenizer: Any) -> Any:
    texts = {"train_text": TEXT, "val_text": TEXT[5:60]}
    return SimpleNamespace(model=model, tokenizer=tokenizer, progress=SimpleNamespace(global_step=7), **texts)


def test_the_beginning_of_both_texts_is_written(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXT, 20)
    run = run_of(model_of(tokenizer.n_vocab), tokenizer)
    write_surprise(run, tmp_path)
    content = json.loads((tmp_path / "surprise.json").read_text(encoding="utf-8"))
    assert content["step"] == 7
    assert len(content["training"]["tokens"]) == N_TOKENS
    assert len(content["validation"]["tokens"]) < N_TOKENS
    for name, text in (("training", run.train_text), ("validation", run.val_text)):
        tokens, probabilities = content[name]["tokens"], content[name]["probabilities"]
        assert text.encode().startswith("".join(tokens).encode().replace(rb"\xe7\x95\x8c", "界".encode()))
        assert probabilities[0] is None
        ids = tokenizer.encode(text)[: len(tokens)]
        np.testing.assert_array_equal(probabilities[1:], token_probabilities(run.model, np.array(ids)))


def test_probabilities_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXT, 20)
    model = model_of(tokenizer.n_vocab)
    model.out_head.weight.data[0, 0] = np.nan
    write_surprise(run_of(model, tokenizer), tmp_path)
    assert json.loads((tmp_path / "surprise.json").read_text(encoding="utf-8")) == {"step": 7}
