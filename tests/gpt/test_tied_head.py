"""A tied head: one parameter with two names, one gradient, one entry of the state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.gradcheck import check_function, check_hessian_symmetry
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model

from .tiny import TINY, ids_of, one_line

TIED = replace(TINY, tied_head=True)


def tied(seed: int = 0) -> GPTModel:
    return GPTModel(TIED, rng=Generator(seed))


def trained(seed: int, steps: int = 3) -> tuple[GPTModel, AdamW]:
    model = tied(seed)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(ids_of((2, 6), seed=step), ids_of((2, 6), seed=step + 1)).backward()
        optimizer.step()
    return model, optimizer


# --- one parameter


def test_both_names_are_one_parameter_and_the_state_holds_it_once() -> None:
    model, apart = tied(), GPTModel(TINY)
    assert model.out_head.weight is model.tok_emb.weight
    assert list(model.state_dict()) == [name for name in apart.state_dict() if name != "out_head.weight"]
    assert model.n_parameters == TIED.n_parameters == apart.n_parameters - TINY.vocab_size * TINY.emb_dim


def test_it_starts_as_a_head_does() -> None:
    assert np.abs(tied().tok_emb.weight.data).max() <= 1 / np.sqrt(TINY.emb_dim)


def test_a_move_keeps_it_one() -> None:
    model = tied().to(dtype=np.float64)
    assert model.out_head.weight is model.tok_emb.weight
    assert model.tok_emb.weight.dtype == np.float64


# --- one gradient


def test_its_gradient_is_the_sum_of_both_uses() -> None:
    ids, targets = ids_of((2, 6)), ids_of((2, 6), seed=1)
    model, apart = tied().to(dtype=np.float64), GPTModel(TINY).to(dtype=np.float64)
    apart.load_state_dict(model.book_state_dict())
    for each in (model, apart):
        each.loss(ids, targets).backward()
    expected = apart.tok_emb.weight.grad + apart.out_head.weight.grad
    assert np.linalg.norm(model.tok_emb.weight.grad - expected) < 1e-13 * np.linalg.norm(expected)


@pytest.mark.parametrize("flat", [False, True], ids=["alone", "in an optimizer's flat array"])
def test_every_gradient_is_proven_by_complex_step(flat: bool) -> None:
    model = GPTModel(replace(TIED, vocab_size=7, context_length=4, emb_dim=4, n_layers=1, qkv_bias=True))
    ids = ids_of((2, 5), model.config)
    if flat:
        AdamW(model.to(dtype=np.float64).parameters())
    leaves = dict(model.named_parameters())

    def loss() -> Tensor:
        return model.loss(ids[:, :-1], ids[:, 1:])

    assert check_function(loss, leaves, exhaustive=True) < 1e-12
    assert check_hessian_symmetry(loss, leaves) < 1e-12


def test_training_keeps_it_one_and_lowers_the_loss() -> None:
    ids, targets = ids_of((2, 6)), ids_of((2, 6), seed=1)
    model = tied()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model.out_head.weight is model.tok_emb.weight
    assert losses[0] < np.log(TINY.vocab_size) + 1
    assert losses[-1] < 0.5 * losses[0]


# --- its state


def test_a_state_may_name_the_head_too_if_it_is_equal() -> None:
    source, target = tied(1), tied(2)
    state = source.book_state_dict()
    assert "out_head.weight" in state
    target.load_state_dict(state)
    np.testing.assert_array_equal(target.out_head.weight.data, source.tok_emb.weight.data)


def test_a_state_with_another_head_is_refused_and_changes_nothing() -> None:
    model = tied()
    before = {name: a.copy() for name, a in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        model.load_state_dict(GPTModel(TINY, rng=Generator(3)).state_dict())
    message = "state_dict: out_head.weight differs from tok_emb.weight; load it with tied_head False"
    assert one_line(error) == message
    assert all((model.state_dict()[name] == a).all() for name, a in before.items())


def test_a_model_file_keeps_it(tmp_path: Path) -> None:
    for book in (False, True):
        model = load_model(save_model(tmp_path / "model.safetensors", tied(1), book=book))
        assert model.config == TIED
        assert model.out_head.weight is model.tok_emb.weight
        np.testing.assert_array_equal(model.out_head.weight.data, tied(1).out_head.weight.data)


def test_training_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path) -> None:
    first, (again, optimizer) = trained(1), trained(2, steps=1)
    load_checkpoint(save_checkpoint(tmp_path / "step_3", *first), again, optimizer)
    for model, its in (first, (again, optimizer)):
        its.zero_grad()
        model.loss(ids_of((2, 6)), ids_of((2, 6), seed=1)).backward()
        its.step()
    for name, array in first[0].state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_a_checkpoint_of_a_model_with_its_head_apart_is_refused(tmp_path: Path) -> None:
    apart = GPTModel(TINY)
    path = save_checkpoint(tmp_path / "step_1", apart, AdamW(apart.parameters()))
    with pytest.raises(InputError, match=r"is of another configuration: tied_head False \(here True\)"):
        load_checkpoint(path, tied())
