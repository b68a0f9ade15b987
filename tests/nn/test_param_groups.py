"""Parameter groups: accepted inputs, writable settings, and decay_groups."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.nn.param_groups import ParamGroup, decay_groups, make_param_groups
from nanograd_gpt.tensor import Tensor

DEFAULTS: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.2}
TINY = GPTConfig(vocab_size=11, context_length=4, emb_dim=4, n_heads=2, n_layers=2, drop_rate=0.0, qkv_bias=True)


def some(n: int = 3) -> list[Parameter]:
    return [Parameter(np.ones(i + 1)) for i in range(n)]


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is taken


def test_parameters_alone_are_one_group_with_the_defaults() -> None:
    ps = some()
    for given in (ps, tuple(ps), iter(ps), (p for p in ps)):
        (group,) = make_param_groups(given, DEFAULTS)
        assert dict(group) == {"params": tuple(ps), **DEFAULTS, "initial_lr": 0.1}


def test_a_group_has_the_defaults_for_what_it_leaves_out() -> None:
    a, b, c = some()
    first, second = make_param_groups([{"params": iter([a, b]), "lr": 0.5, "weight_decay": 0}, {"params": c}], DEFAULTS)
    assert dict(first) == {"params": (a, b), **DEFAULTS, "lr": 0.5, "initial_lr": 0.5, "weight_decay": 0.0}
    assert dict(second) == {"params": (c,), **DEFAULTS, "initial_lr": 0.1}


def test_a_groups_length_and_keys_are_those_of_a_mapping() -> None:
    (group,) = make_param_groups(some(), DEFAULTS)
    assert list(group) == ["params", "lr", "betas", "eps", "weight_decay", "initial_lr"]
    assert len(group) == 6
    assert "lr" in group
    assert repr(group).startswith("ParamGroup(3 parameters, lr=0.1, betas=(0.9, 0.99), ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Tensor(np.ones(2), requires_grad=True), "parameters: expected a list of Tensors, got a Tensor"),
        (GPTModel(TINY), "parameters: expected a list of Tensors, got a GPTModel; give model.parameters()"),
        ({"params": some()}, "parameters: expected a list of Tensors, got a dict"),
        ("weights", "parameters: expected a list of Tensors, got a str"),
        (set(some()), "parameters: expected a list of Tensors, got a set"),
        (None, "parameters: expected a list of Tensors, got a NoneType"),
        ([{"params": set(some())}], "parameter group 0: params: expected a list of Tensors, got a set"),
        ([{"params": some(), "lr": -1}], "parameter group 0: lr: -1 is not allowed; choose a finite number >= 0"),
        ([{"params": some()}, {"lr": 1.0}], "parameter group 1: 'params' is missing; give {'params': [...], "),
        ([{"params": some()}, some()[0]], "parameter group 1: it is a Parameter; give {'params': [...], "),
        ([{"params": some(), "amsgrad": True}], "parameter group 0: 'amsgrad' is unknown; choose one of params, lr, "),
        ([{"params": some(), "weight_deacy": 0}], "parameter group 0: 'weight_deacy' is unknown; "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_group_is_refused_with_its_place(given: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        make_param_groups(given, DEFAULTS)
    assert message in one_line(error)


# --- what may be written


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("lr", 0, 0.0),
        ("lr", np.float32(0.5), 0.5),
        ("lr", np.asarray(0.5), 0.5),
        ("betas", [0, np.float64(0.5)], (0.0, 0.5)),
        ("eps", np.float16(0.5), 0.5),
        ("weight_decay", np.int64(2), 2.0),
        ("initial_lr", 1, 1.0),
    ],
)
def test_a_setting_is_kept_as_pythons_own_number(key: str, value: Any, kept: Any) -> None:
    (group,) = make_param_groups(some(), DEFAULTS)
    group[key] = value
    assert group[key] == kept
    numbers = group[key] if key == "betas" else [group[key]]
    assert {type(number) for number in numbers} == {float}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", -1e-3, "lr: -0.001 is not allowed; choose a finite number >= 0"),
        ("lr", nan, "lr: nan is not allowed; choose a finite number >= 0"),
        ("lr", inf, "lr: inf is not allowed; choose a finite number >= 0"),
        ("lr", True, "lr: True is not allowed; choose a finite number >= 0"),
        ("lr", "0.1", "lr: '0.1' is not allowed; choose a finite number >= 0"),
        ("lr", np.ones(2), "lr: array([1., 1.]) is not allowed; choose a finite number >= 0"),
        ("lr", None, "lr: None is not allowed; choose a finite number >= 0"),
        ("lr", 1j, "lr: 1j is not allowed; choose a finite number >= 0"),
        ("betas", 0.9, "betas: 0.9 is not allowed; choose two numbers in [0, 1)"),
        ("betas", (0.9, 0.9, 0.9), "betas: (0.9, 0.9, 0.9) is not allowed; choose two numbers in [0, 1)"),
        ("betas", (0.9, 1), "beta2: 1 is not allowed; choose a finite number in [0, 1)"),
        ("betas", ("a", 0.9), "beta1: 'a' is not allowed; choose a finite number in [0, 1)"),
        ("eps", 0, "eps: 0 is not allowed; choose a finite number > 0"),
        ("weight_decay", -1, "weight_decay: -1 is not allowed; choose a finite number >= 0"),
        ("params", [], "optimizer: params cannot be changed; make a new optimizer"),
        ("lrr", 1, "optimizer: 'lrr' is unknown; choose one of params, lr, betas, eps, weight_decay, initial_lr"),
    ],
)
def test_a_value_out_of_range_is_refused_as_it_is_written(key: str, value: Any, message: str) -> None:
    (group,) = make_param_groups(some(), DEFAULTS)
    before = dict(group)
    for write in (lambda: group.__setitem__(key, value), lambda: group.update({key: value})):
        with pytest.raises(InputError) as error:
            write()
        assert one_line(error) == message
    assert dict(group) == before


def test_a_setting_cannot_be_left_out() -> None:
    group = ParamGroup(some(), DEFAULTS)
    with pytest.raises(InputError, match="lr cannot be deleted"):
        del group["lr"]
    assert group["lr"] == 0.1


# --- what decays


@pytest.mark.parametrize("tied_head", [False, True])
def test_matrices_and_embeddings_decay_and_biases_and_norms_do_not(tied_head: bool) -> None:
    model = GPTModel({**TINY.to_dict(), "tied_head": tied_head})
    names = {id(p): name for name, p in model.named_parameters()}
    decay, others = decay_groups(model, 0.1)
    assert (decay["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {names[id(p)].rpartition(".")[2] for p in decay["params"]} == {"weight"}
    assert {names[id(p)].rpartition(".")[2] for p in others["params"]} == {"bias", "scale", "shift"}
    assert sorted(names) == sorted(map(id, [*decay["params"], *others["params"]]))
