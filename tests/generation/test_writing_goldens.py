"""Greedy and beam texts of small random GPT-2s are those of transformers' generate, stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.weights.load import load_weights

GOLDENS = Path(__file__).parents[1] / "goldens"
SEARCHES = ["plain", "ending", "short", "long"]
NEW, LENGTH = 100, 112


@pytest.fixture(scope="module", params=["tied", "apart"])
def golden(request: pytest.FixtureRequest) -> tuple[GPTModel, dict[str, Any]]:
    directory = GOLDENS / f"writing_{request.param}"
    with np.load(directory / "written.npz", allow_pickle=False) as file:
        return load_weights(directory).to(dtype=np.float64), dict(file)


@pytest.mark.parametrize(("name", "penalty"), [("greedy", 1.0), ("penalized", 1.3)])
def test_100_greedy_tokens_are_theirs(golden: tuple[GPTModel, dict[str, Any]], name: str, penalty: float) -> None:
    model, facts = golden
    assert len(set(facts[name][0].tolist())) > 5
    text = generate_text(model, facts["prompt"], NEW, LENGTH, repetition_penalty=penalty)
    np.testing.assert_array_equal(text, facts[name])


@pytest.mark.parametrize("search", SEARCHES)
def test_beam_texts_and_scores_are_theirs(golden: tuple[GPTModel, dict[str, Any]], search: str) -> None:
    model, facts = golden
    n, penalty, ends = facts[f"{search} settings"]
    eos = int(facts["eos"]) if ends else None
    beams = beam_search(model, facts["prompt"][0], NEW, LENGTH, int(n), float(penalty), int(n), eos)
    for beam, theirs, score in zip(beams, facts[f"{search} texts"], facts[f"{search} scores"], strict=True):
        text = theirs[theirs >= 0]
        if len(beam.text) < facts["prompt"].shape[1] + NEW:
            assert text[-1] == eos
            text = text[:-1]
        np.testing.assert_array_equal(beam.text, text)
        assert abs(beam.score - score) < 1e-5 * max(1.0, abs(score))  # theirs are kept in float32
