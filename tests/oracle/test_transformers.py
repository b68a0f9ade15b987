"""Random GPT-2s of several shapes by transformers: logits, losses, greedy and beam texts; and ours, loaded there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.save import save_pretrained

from .closeness import assert_close

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NEW = 100
SHAPES = {  # vocab_size, n_positions, n_embd, n_head, n_layer, tied
    "tied": (61, 128, 24, 3, 2, True),
    "apart": (97, 160, 32, 4, 3, False),
    "one head": (40, 120, 20, 1, 4, True),
    "wide": (300, 128, 96, 12, 1, True),
}

Ints = npt.NDArray[np.int64]


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, GPTModel, Ints]:
    """Their model in float64, ours of the same files, and a prompt (1, T + 1)."""
    V, length, C, H, L, tied = SHAPES[request.param]
    torch.manual_seed(len(request.param))
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=V,
            n_positions=length,
            n_embd=C,
            n_head=H,
            n_layer=L,
            tie_word_embeddings=tied,
            initializer_range=0.4,
            bos_token_id=V - 1,
            eos_token_id=V - 1,
        )
    ).eval()
    directory = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(directory)
    ids = np.random.default_rng(V).integers(0, V, (1, 9))
    return theirs.double(), load_weights(directory).to(dtype=np.float64), ids


def written(theirs: Any, prompt: Ints, **settings: Any) -> Any:
    ids = torch.tensor(prompt)
    return theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        pad_token_id=-1,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )


def test_logits_and_losses_are_theirs(pair: tuple[Any, GPTModel, Ints]) -> None:
    theirs, ours, ids = pair
    with torch.no_grad():
        logits = theirs(torch.tensor(ids[:, :-1])).logits
        loss = torch.nn.functional.cross_entropy(logits[0], torch.tensor(ids[0, 1:]))
    for dtype, precision in ((np.float32, 1e-5), (np.float64, 1e-10)):
        ours.to(dtype=dtype)
        assert_close(ours(ids[:, :-1]).data, logits.numpy(), precision, "logits")
        assert_close(ours.loss(ids[:, :-1], ids[:, 1:]).data, loss.numpy(), precision, "loss")


def test_greedy_texts_are_theirs(pair: tuple[Any, GPTModel, Ints]) -> None:
    theirs, ours, ids = pair
    expected = written(theirs, ids, eos_token_id=None).sequences.numpy()
    assert len(set(expected[0, ids.shape[1] :].tolist())) > 5
    np.testing.assert_array_equal(generate_text(ours, ids, NEW, ours.config.context_length), expected)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_greedy_texts_with_a_repetition_penalty_are_theirs(pair: tuple[Any, GPTModel, Ints], penalty: float) -> None:
    theirs, ours, ids = pair
    expected = written(theirs, ids, eos_token_id=None, repetition_penalty=penalty).sequences.numpy()
    text = generate_text(ours, ids, NEW, ours.config.context_length, repetition_penalty=penalty)
    np.testing.assert_array_equal(text, expected)


@pytest.mark.slow
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("n_beams", [2, 5])
def test_beam_texts_and_scores_are_theirs(
    pair: tuple[Any, GPTModel, Ints], n_beams: int, length_penalty: float, ends: bool
) -> None:
    theirs, ours, ids = pair
    greedy = generate_text(ours, ids, NEW, ours.config.context_length)[0, ids.shape[1] :]
    eos = int(np.bincount(greedy).argmax()) if ends else None
    expected = written(
        theirs,
        ids,
        eos_token_id=eos,
        num_beams=n_beams,
        num_return_sequences=n_beams,
        length_penalty=length_penalty,
        early_stopping="never",  # it goes on while a better text can be found, as ours does
    )
    beams = beam_search(ours, ids[0], NEW, ours.config.context_length, n_beams, length_penalty, n_beams, eos)
    for beam, tokens, score in zip(beams, expected.sequences, expected.sequences_scores, strict=True):
        whole = [*beam.text, eos] if ends and len(beam.text) < ids.shape[1] + NEW else beam.text.tolist()
        assert whole == tokens[: len(whole)].tolist()
        assert (tokens[len(whole) :] == -1).all()  # padding
        assert abs(beam.score - float(score)) < 1e-4 * max(1, abs(beam.score))  # theirs is kept in float32


@pytest.mark.parametrize(("qkv_bias", "tied"), [(True, True), (False, False)])
def test_a_model_of_ours_is_the_same_there(qkv_bias: bool, tied: bool, tmp_path: Path) -> None:
    config = GPTConfig(61, 128, 24, 3, 2, 0.1, qkv_bias, tied)
    ours = GPTModel(config, rng=Generator(5)).to(dtype=np.float64).eval()
    for p in ours.trf_blocks.parameters():
        p.data *= 3
    theirs = transformers.GPT2LMHeadModel.from_pretrained(
        save_pretrained(tmp_path / "ours", ours), dtype=torch.float64
    ).eval()
    ids = np.random.default_rng(0).integers(0, 61, (2, 8))
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
    assert_close(ours(ids).data, logits, 1e-10, "logits")
    expected = written(theirs, ids[:1], eos_token_id=None).sequences.numpy()
    np.testing.assert_array_equal(generate_text(ours, ids[:1], NEW, 128), expected)
