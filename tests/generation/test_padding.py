"""Ids that stand for no token, of a padded vocabulary or of a tokenizer with gaps, are never chosen in any way."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpt.tiny import one_line
from tokenizer.encodings import gappy

from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.explain import explain_next
from nanograd_gpt.generation.generate import generate_batch, generate_text
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.generation.streaming import complete, complete_batch
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator, RandomStream, TorchStream
from nanograd_gpt.tokenizer.encoding import padding_ids

V = 300
PADDING = padding_ids(gappy(), V)
CONFIG = GPTConfig(vocab_size=V, context_length=12, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.0)
PROMPT = np.array([[97, 98, 99]])
WAYS = {
    "greedy": Sampling(),
    "sampled": Sampling(1.0),
    "hot": Sampling(50.0),
    "top_k": Sampling(1.0, top_k=5),
    "top_k of all": Sampling(9.0, top_k=V),
    "top_p": Sampling(1.0, top_p=0.9),
    "top_p of nearly all": Sampling(50.0, top_p=0.999999),
    "min_p": Sampling(1.0, min_p=0.2),
    "penalty": Sampling(1.0, repetition_penalty=3.0),
    "a reward": Sampling(0.0, repetition_penalty=0.1),
}


@pytest.fixture
def model() -> GPTModel:
    """To whom every padding id is far likelier than any token."""
    model = GPTModel(CONFIG, rng=Generator(1)).eval()
    model.final_norm.shift.data[:] = 1
    model.out_head.weight.data[PADDING] += 3
    assert set(explained(model)) <= set(PADDING.tolist())
    return model


def explained(model: GPTModel) -> list[int]:
    return [guess.token for guess in explain_next(model, PROMPT[0], 10)[-1].expected]


def no_padding(ids: npt.ArrayLike) -> None:
    assert not np.isin(ids, PADDING).any()


@pytest.mark.parametrize("rng", [Generator(5), TorchStream(5)], ids=["own", "torch"])
@pytest.mark.parametrize("way", WAYS)
def test_a_padding_id_is_never_chosen(way: str, rng: RandomStream, model: GPTModel) -> None:
    prompts = [[97], [98, 99], PADDING[:3].tolist()]
    texts = generate_batch(model, prompts, 60, 12, WAYS[way], rng=rng, padding=PADDING)
    for prompt, text in zip(prompts, texts, strict=True):
        no_padding(text[len(prompt) :])
        assert len(text) == len(prompt) + 60


def test_without_padding_all_that_is_likelier_is_chosen(model: GPTModel) -> None:
    assert np.isin(generate_text(model, PROMPT, 5, 12)[0, 3:], PADDING).all()


def test_generate_text_takes_padding_too(model: GPTModel) -> None:
    no_padding(generate_text(model, PROMPT, 40, 12, padding=PADDING))


@pytest.mark.parametrize("n_beams", [1, 4, 400])
def test_no_beam_holds_a_padding_id(n_beams: int, model: GPTModel) -> None:
    beams = beam_search(model, PROMPT[0], 6, 12, n_beams, n_best=n_beams, padding=PADDING)
    for beam in beams:
        no_padding(beam.text)
        assert np.isfinite(beam.score)


@pytest.mark.parametrize("way", WAYS)
def test_text_is_completed_with_a_padded_vocabulary(way: str, model: GPTModel) -> None:
    assert len(complete(model, "the abc", gappy(), 40, WAYS[way], rng=Generator(3)).encode()) >= 40
    assert all(complete_batch(model, ["the", "t"], gappy(), 20, WAYS[way], rng=Generator(3)))


def test_the_choice_is_what_it_were_if_the_padding_were_not_there(model: GPTModel) -> None:
    smaller = GPTModel({**CONFIG.to_dict(), "vocab_size": 256}, rng=Generator(1)).eval()
    state = model.state_dict()
    for name in ("tok_emb.weight", "out_head.weight"):
        state[name] = state[name][:256]
    smaller.load_state_dict(state)
    beyond = np.arange(256, V)
    for way in ("greedy", "sampled", "top_k", "top_p", "min_p", "penalty"):
        texts = [
            generate_batch(m, [[97]], 40, 12, WAYS[way], rng=Generator(3), padding=padding)[0].tolist()
            for m, padding in ((model, beyond), (smaller, None))
        ]
        assert texts[0] == texts[1]


def test_a_padding_id_is_neither_listed_nor_ranked_but_has_its_share(model: GPTModel) -> None:
    n = V - len(PADDING)
    (_, position, _), (_, plain, _) = (
        explain_next(model, PROMPT[0], n, padding) for padding in (PADDING, np.empty(0, dtype=np.int64))
    )
    no_padding([guess.token for guess in position.expected])
    assert len(position.expected) == n
    assert position.came is not None
    assert plain.came is not None
    assert position.came.probability == plain.came.probability < 1e-3
    assert sum(guess.probability for guess in position.expected) < 0.01
    assert position.came.rank == 1 + [guess.token for guess in position.expected].index(99) <= n
    with pytest.raises(InputError, match=rf"top: {n + 1} is not allowed; choose 1 \.\. {n}") as error:
        explain_next(model, PROMPT[0], n + 1, PADDING)
    one_line(error)


@pytest.mark.parametrize("padding", [[300], [-1], [0.5], [[1]], range(300)], ids=str)
def test_padding_that_is_no_ids_is_refused(padding: Any, model: GPTModel) -> None:
    for use in (
        lambda: generate_text(model, PROMPT, 3, 12, padding=padding),
        lambda: beam_search(model, PROMPT[0], 3, 12, 2, padding=padding),
        lambda: explain_next(model, PROMPT[0], 3, padding=padding),
    ):
        with pytest.raises(InputError, match="padding: ") as error:
            use()
        one_line(error)


def test_a_tokenizer_larger_than_the_model_is_refused(model: GPTModel) -> None:
    small = GPTModel({**CONFIG.to_dict(), "vocab_size": 280}, rng=Generator(1))
    with pytest.raises(InputError, match="vocab_size: 280 is less than the 281 ids of tokenizer 'gappy'") as error:
        complete(small, "a", gappy(), 3)
    one_line(error)
