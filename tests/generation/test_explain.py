"""A model's predictions after each token, against its own logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpt.tiny import TINY, ids_of, one_line

from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.generation import explain
from nanograd_gpt.generation.explain import explain_next
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import is_grad_enabled
from nanograd_gpt.rng import Generator

V = TINY.vocab_size


def model_of(drop_rate: float = 0.0, dtype: Any = np.float64) -> GPTModel:
    return GPTModel({**TINY.to_dict(), "drop_rate": drop_rate}, rng=Generator(1)).to(dtype=dtype)


def probabilities(model: GPTModel, ids: Any) -> Any:
    """(T, V)"""
    logits = model(ids[None]).data[0]
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("T", [1, 2, TINY.context_length])
@pytest.mark.parametrize("top", [1, 5, V])
def test_every_position_has_its_likeliest_tokens_and_what_became_of_the_one_that_came(T: int, top: int) -> None:
    model, ids = model_of(), ids_of((T,))
    positions = explain_next(model, ids, top)
    assert [position.token for position in positions] == ids.tolist()
    for i, (position, p) in enumerate(zip(positions, probabilities(model, ids), strict=True)):
        assert [candidate.token for candidate in position.candidates] == np.argsort(-p)[:top].tolist()
        found = [candidate.probability for candidate in position.candidates]
        np.testing.assert_allclose(found, np.sort(p)[::-1][:top], rtol=1e-12)
        if i == T - 1:
            assert position.actual is None
        else:
            token, probability, rank = position.actual or (None, None, None)
            assert token == ids[i + 1]
            assert probability == pytest.approx(p[token], rel=1e-12)
            assert rank == 1 + sum(other > p[token] for other in p)


def test_all_the_vocabulary_adds_up_to_1_and_ranks_are_places_in_it() -> None:
    for position in explain_next(model_of(), ids_of((6,)), V):
        assert sum(candidate.probability for candidate in position.candidates) == pytest.approx(1, rel=1e-12)
        if position.actual is not None:
            assert position.candidates[position.actual.rank - 1] == position.actual[:2]


def test_of_equals_the_smaller_id_comes_first_and_none_outranks_another() -> None:
    model = model_of()
    model.out_head.weight.data[:] = 0
    model.out_head.weight.data[[3, 9]] = 1
    model.final_norm.shift.data[:] = 1  # so that tokens 3 and 9 are the likeliest, and equal; all others are equal too
    positions = explain_next(model, np.array([0, 9, 3, 5, 22]), 4)
    assert [[candidate.token for candidate in position.candidates] for position in positions] == [[3, 9, 0, 1]] * 5
    assert [position.actual and position.actual.rank for position in positions] == [1, 1, 3, 3, None]


def test_a_few_rows_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = model_of(), ids_of((6,))
    at_once = explain_next(model, ids)
    for limit in (1, V, 4 * V + 1):
        monkeypatch.setattr(explain, "LOGITS_PER_CHUNK", limit)
        for one, other in zip(explain_next(model, ids), at_once, strict=True):
            assert [candidate.token for candidate in one.candidates] == [
                candidate.token for candidate in other.candidates
            ]
            assert one.actual == (other.actual and pytest.approx(other.actual, rel=1e-12))


def test_dropout_rests_and_the_mode_is_as_before() -> None:
    model = model_of(drop_rate=0.5)
    model.trf_blocks[1].eval()
    before = [module.training for module in model.modules()]
    assert explain_next(model, ids_of((6,))) == explain_next(model_of(), ids_of((6,)))
    assert [module.training for module in model.modules()] == before
    assert is_grad_enabled()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_probabilities_of_any_logits_are_numbers(scale: float) -> None:
    model = model_of(dtype=np.float32)
    model.out_head.weight.data *= np.float32(scale)
    for position in explain_next(model, ids_of((6,)), V):
        assert sum(candidate.probability for candidate in position.candidates) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ids", "top", "says"),
    [
        (ids_of((6,)), 0, "top: 0 is not allowed; choose 1 .. 23"),
        (ids_of((6,)), V + 1, "top: 24 is not allowed"),
        (ids_of((6,)), -1, "top: -1 is not allowed"),
        (ids_of((2, 3)), 5, r"prompt: expected token ids of shape \(T,\), got shape \(2, 3\)"),
        (ids_of((0,)), 5, "ids: expected at least one token"),
        (ids_of((7,)), 5, "ids: 7 tokens are more than context_length = 6"),
        (np.array([0, V]), 5, "ids: 0 .. 23 reach outside the vocabulary"),
        (np.array([0.5]), 5, "ids: expected integers"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_refused(ids: Any, top: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        explain_next(model_of(), ids, top)
    one_line(error)


def test_logits_that_are_no_numbers_fail() -> None:
    model = model_of()
    model.out_head.weight.data[3, 0] = np.nan
    with pytest.raises(RunError, match="explain-next: the model's logits are not finite"):
        explain_next(model, ids_of((6,)))
