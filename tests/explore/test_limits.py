"""A page of a large model says what it leaves out; one that would be too large is refused."""

from __future__ import annotations

import numpy as np
import pytest
from explore.pages import data_of, page_of

import nanograd_gpt as ng
from nanograd_gpt.explore import limits
from nanograd_gpt.explore.limits import kept_of
from nanograd_gpt.explore.payload import TEMPERATURES
from nanograd_gpt.explore.write_explorer import explorer_page
from nanograd_gpt.gpt.config import PRESETS

GPT2 = PRESETS["gpt2-124m"]


def test_small_models_keep_everything_and_gpt2_a_part() -> None:
    for name in ("tiny", "tales"):
        config = PRESETS[name]
        assert kept_of(config, config.context_length) == (None, None, True)
    assert kept_of(GPT2, 5) == (None, None, True)
    assert kept_of(GPT2, 100) == (500, 16, False)


def test_a_prompt_too_long_for_a_page_is_refused_with_the_longest_that_is_not() -> None:
    with pytest.raises(ng.InputError, match="give at most 203 tokens") as error:
        kept_of(GPT2, 204)
    assert "144 heads" in str(error.value)
    kept_of(GPT2, 203)


@pytest.mark.parametrize("name", ["tiny", "tales"])
def test_the_page_of_a_small_model_with_a_full_context_is_under_5_mb(name: str) -> None:
    config = PRESETS[name]
    merges = config.vocab_size - 257
    words = ng.train_tokenizer(" ".join(f"word{i} of{i}" for i in range(900)), n_merges=merges)
    assert words.n_vocab <= config.vocab_size
    model = ng.GPTModel(config, rng=ng.Generator(1))
    prompt = "the sun rose " * 40
    page = explorer_page(model, prompt, words, name)
    assert len(data_of(page)["ids"]) == config.context_length
    assert 500_000 < len(page.encode()) < 5_000_000


def test_what_is_left_out_is_said_and_its_probability_known_at_each_temperature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = data_of(page_of()[2])["candidates"]
    for name, value in (("MAX_PART", 100), ("LIKELIEST", 30), ("STRONGEST", 4)):
        monkeypatch.setattr(limits, name, value)
    page = page_of()[2]
    data = data_of(page)
    for words in ("all but the 30 likeliest", "but for the 4 furthest from 0", "only the length of each vector"):
        assert words in page
    assert data["steps"]["vectors"] is None
    assert data["mlp"]["values"].shape[-1] == 4
    part = data["candidates"]
    assert part["left_out"] == len(whole["ids"]) - 30
    for t, logits in enumerate(whole["logits"]):
        best = np.sort(logits)[::-1][:30]
        np.testing.assert_array_equal(part["logits"][t], best)
        np.testing.assert_array_equal(logits[part["ids"][t]], best)
        for i, temperature in enumerate(TEMPERATURES[1:], start=1):
            others = np.sort(logits)[::-1][30:].astype(np.float64) / temperature
            assert part["rest"][t, i] == pytest.approx(np.log(np.exp(others).sum()), rel=1e-5)
