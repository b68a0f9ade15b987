"""Tales that a model writes during its training."""

from __future__ import annotations

from functools import cache

import pytest
from training.small_run import state

from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.tales.checker import judge, score
from nanograd_gpt.tales.generator import TALE_TOKENS, write_tales
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.data import create_dataloader_v1
from nanograd_gpt.training.loop import training_steps
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.tale_test import model_tales, score_line, tale_test

TALE = write_tales(1).splitlines()[0]
SMALL = {"emb_dim": 16, "n_heads": 2, "n_layers": 1, "eval_iter": 1}


@cache
def one_tale() -> tuple[GPTModel, object]:
    """A model trained on one tale, over and over, and its tokenizer."""
    text = f"{TALE}\n" * 20
    tokenizer = train_tokenizer(text, 200)
    loader = create_dataloader_v1(text, 4, TALE_TOKENS, TALE_TOKENS, tokenizer=tokenizer, rng=Generator(0))
    sizes = {"vocab_size": tokenizer.n_vocab, "context_length": TALE_TOKENS, "drop_rate": 0.0}
    model = GPTModel(GPTConfig(**sizes, emb_dim=32, n_heads=2, n_layers=1), rng=Generator(0))
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in training_steps(model, loader, loader, optimizer, "cpu", num_epochs=15, eval_freq=100, eval_iter=1):
        pass
    return model, tokenizer


def test_a_model_trained_on_one_tale_copies_it() -> None:
    model, tokenizer = one_tale()
    tales = model_tales(model, tokenizer, 5, Generator(1))
    assert tales == [TALE] * 5
    found = score(tales, {TALE})
    assert (found.copies, found.grammatical, found.sentences) == (5, 65, 65)
    assert found.consistent == found.tested > 0


def test_the_models_mode_is_left_as_it_was() -> None:
    model, tokenizer = one_tale()
    for mode in (True, False):
        model.train(mode)
        model_tales(model, tokenizer, 1, Generator(1))
        assert model.training == mode


def test_the_same_stream_writes_the_same_tales() -> None:
    run = Run(preset("tales").replace(SMALL), "cpu")
    tales = [model_tales(run.model, run.tokenizer, 3, Generator(seed)) for seed in (1, 1, 2)]
    assert tales[0] == tales[1] != tales[2]
    assert len(set(tales[0])) == 3


def test_an_untrained_model_writes_hardly_a_sentence_and_copies_nothing() -> None:
    run = Run(preset("tales").replace(SMALL), "cpu")
    test = tale_test(run)
    assert test is not None
    found = test.score(10)
    assert found.tales == 10
    assert found.grammatical < found.sentences
    assert (found.consistent, found.copies) == (0, 0)


def test_a_score_changes_nothing_of_the_run() -> None:
    run = Run(preset("tales").replace(SMALL), "cpu")
    test, before = tale_test(run), state(run)
    assert test is not None
    test.score(2)
    assert state(run) == before


def test_the_training_tales_are_known_and_the_validation_tales_are_not() -> None:
    run = Run(preset("tales").replace(SMALL), "cpu")
    test = tale_test(run)
    assert test is not None
    assert set(run.train_text.splitlines()) == test.known
    assert len(set(run.val_text.splitlines()) & test.known) < 10  # a short tale may be drawn twice
    assert not judge(run.val_text.splitlines()[0]).faults


def test_a_run_on_another_text_has_no_such_test() -> None:
    assert tale_test(Run(preset("tiny"), "cpu")) is None


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            (50, 650, 648, 400, 300, 1),
            "50 tales by the model: 648 of 650 (100%) sentences are grammatical, 300 of 400 (75%)",
        ),
        ((50, 650, 648, 400, 300, 1), "1 tale is a copy of training text"),
        ((50, 650, 648, 400, 300, 0), "0 tales are copies of training text"),
        ((1, 0, 0, 0, 0, 0), "1 tale by the model: 0 of 0 sentences are grammatical, 0 of 0 agree"),
    ],
)
def test_a_score_is_put_into_words(counts: tuple[int, ...], words: str) -> None:
    names = ("tales", "sentences", "grammatical", "tested", "consistent", "copies")
    assert words in score_line(dict(zip(names, counts, strict=True)))
