"""AdamW's state: resumes to the bit; a foreign or damaged state is refused and changes nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from small_parameters import SETTINGS, SHAPES, give, gradients, parameters, train

from nanograd_gpt.errors import InputError
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.optim import AdamW


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_restored_optimizer_continues_to_the_bit(settings: dict[str, Any], dtype: Any) -> None:
    whole = parameters(dtype)
    train(AdamW(whole, **settings), range(10), dtype)

    first = parameters(dtype)
    optimizer = AdamW(first, **settings)
    train(optimizer, range(6), dtype)
    second = [Parameter(p.data.copy()) for p in first]
    restored = AdamW(second)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(restored, range(6, 10), dtype)

    for p, q in zip(whole, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_restored_optimizer_knows_the_steps_of_each_parameter() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    for seed in range(3):
        g = gradients(seed)
        give(ps, [g[0], g[1] if seed else None, None])
        optimizer.step()
    restored = AdamW([Parameter(p.data.copy()) for p in ps])
    restored.load_state_dict(optimizer.state_dict())
    assert restored.steps == [3, 2, 0]
    for o in (optimizer, restored):
        train(o, range(3, 5))
    for p, q in zip(ps, restored.parameters, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_restoring_puts_the_saved_learning_rate_and_settings_back() -> None:
    saved = AdamW(parameters(), lr=4e-4, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1).state_dict()
    restored = AdamW(parameters(), lr=5e-4)
    restored.load_state_dict(saved)
    assert (restored.lr, restored.betas, restored.eps, restored.weight_decay) == (4e-4, (0.8, 0.9), 1e-6, 0.1)


def test_a_restored_state_is_a_copy() -> None:
    optimizer = AdamW(parameters())
    train(optimizer, range(2))
    restored = AdamW(parameters())
    restored.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(restored.state_dict())
    train(optimizer, range(2, 4))
    np.testing.assert_equal(restored.state_dict(), before)


def test_the_state_has_an_entry_for_each_parameter_in_its_shape() -> None:
    optimizer = AdamW(parameters())
    train(optimizer, range(2))
    state = optimizer.state_dict()
    assert state["steps"] == [2, 2, 2]
    for name in ("exp_avg", "exp_avg_sq"):
        assert [a.shape for a in state[name]] == SHAPES
        assert all(a.any() for a in state[name])


def test_a_groups_state_goes_on_to_the_bit_and_restores_its_settings() -> None:
    def groups(ps: list[Parameter], **own: Any) -> list[dict[str, Any]]:
        return [{"params": ps[:1], **own}, {"params": ps[1:]}]

    whole = parameters()
    optimizer = AdamW(groups(whole, lr=0.1, betas=(0.5, 0.6), weight_decay=0.3), lr=0.01)
    optimizer.lr = 0.005
    train(optimizer, range(3))
    restored = AdamW(groups([Parameter(p.data.copy()) for p in whole]))
    restored.load_state_dict(
        json.loads(json.dumps(optimizer.state_dict(), default=repr_of_array), object_hook=arrays_of)
    )
    np.testing.assert_equal(restored.state_dict(), optimizer.state_dict())
    for o in (optimizer, restored):
        train(o, range(3, 5))
        o.lr = 0.02
        train(o, range(5, 7))
    assert [g["lr"] for g in restored.param_groups] == [0.2, 0.02]
    for p, q in zip(whole, restored.parameters, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def repr_of_array(array: Any) -> dict[str, Any]:
    return {"array": array.tolist(), "shape": list(array.shape)}


def arrays_of(found: dict[str, Any]) -> Any:
    return np.array(found["array"], dtype=np.float64).reshape(found["shape"]) if "array" in found else found


def test_a_state_of_one_group_is_in_the_form_it_always_had() -> None:
    state = AdamW(parameters(), lr=0.1).state_dict()
    assert list(state) == ["settings", "steps", "exp_avg", "exp_avg_sq"]
    assert state["settings"] == {"lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 1e-2}


def test_loading_a_state_of_one_group_leaves_the_initial_learning_rate() -> None:
    source, optimizer = AdamW(parameters(), lr=0.1), AdamW(parameters(), lr=0.2)
    source.lr = 0.01
    optimizer.load_state_dict(source.state_dict())
    assert optimizer.lr == 0.01
    assert optimizer.param_groups[0]["initial_lr"] == 0.2
    state = source.state_dict()
    state["settings"]["initial_lr"] = 0.3
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["initial_lr"] == 0.3


def settings_with(**changes: Any) -> dict[str, Any]:
    return {"lr": 4e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, **changes}


ONE_GROUP = {**settings_with(), "initial_lr": 4e-4, "params": [0, 1, 2]}
FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "another shape": ({"exp_avg": [np.zeros((2, 3)), np.zeros(5), np.zeros(())]}, "exp_avg[1] has shape (5,)"),
    "another shape of squares": (
        {"exp_avg_sq": [np.zeros((3, 2)), np.zeros(4), np.zeros(())]},
        "exp_avg_sq[0] has shape (3, 2), the parameter (2, 3)",
    ),
    "too few means": ({"exp_avg": [np.zeros((2, 3))]}, "exp_avg: 1 in the state, 3 parameters here"),
    "too few steps": ({"steps": [3, 3]}, "steps: 2 in the state, 3 parameters here"),
    "too many steps": ({"steps": [3, 3, 3, 1]}, "steps: 4 in the state, 3 parameters here"),
    "steps that are one number": ({"steps": 3}, "steps: int in the state, 3 parameters here"),
    "steps below 0": ({"steps": [3, -1, 3]}, "steps[1]: -1 is not allowed; choose a whole number >= 0"),
    "fractional steps": ({"steps": [3, 3, 3.5]}, "steps[2]: 3.5 is not allowed; choose a whole number >= 0"),
    "integers as means": (
        {"exp_avg": [np.zeros((2, 3)), np.zeros(4, dtype=int), np.zeros(())]},
        "exp_avg[1] is of int64; an array of floating-point numbers is expected",
    ),
    "lists as means": ({"exp_avg": [[0.0], [0.0], 0.0]}, "exp_avg[0] is of list; an array of floating-point numbers"),
    "nan in a mean": (
        {"exp_avg": [np.zeros((2, 3)), np.full(4, np.nan), np.zeros(())]},
        "exp_avg[1] contains nan, which is not a valid running mean",
    ),
    "a negative square": (
        {"exp_avg_sq": [np.zeros((2, 3)), np.zeros(4), np.asarray(-1.0)]},
        "exp_avg_sq[2] contains -1.0, which is not a valid running mean",
    ),
    "lr -1": ({"settings": settings_with(lr=-1)}, "lr: -1 is not allowed; choose a finite number >= 0"),
    "lr nan": ({"settings": settings_with(lr=np.nan)}, "lr: nan is not allowed; choose a finite number >= 0"),
    "lr a word": ({"settings": settings_with(lr="fast")}, "lr: 'fast' is not allowed; choose a finite number >= 0"),
    "one beta": ({"settings": settings_with(betas=[0.9])}, "betas: [0.9] is not allowed; choose two numbers in [0, 1)"),
    "a beta of 1": ({"settings": settings_with(betas=[0.9, 1.0])}, "beta2: 1.0 is not allowed"),
    "initial_lr -1": ({"settings": settings_with(initial_lr=-1)}, "initial_lr: -1 is not allowed"),
    "eps 0": ({"settings": settings_with(eps=0)}, "eps: 0 is not allowed; choose a finite number > 0"),
    "no lr": ({"settings": {"betas": [0.9, 0.99]}}, "the state has no lr; give what state_dict() returned"),
    "settings as a number": ({"settings": 1e-3}, "the settings are a float, not a mapping"),
    "settings as a list": ({"settings": [1e-3]}, "the settings are a list, not a mapping"),
    "two groups": ({"groups": [ONE_GROUP, ONE_GROUP]}, "2 parameter groups in the state, 1 here"),
    "groups as a word": ({"groups": "two"}, "str parameter groups in the state, 1 here"),
}


@pytest.mark.parametrize(("changes", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_state_that_is_not_its_own_is_refused_and_changes_nothing(changes: dict[str, Any], message: str) -> None:
    source = AdamW(parameters(), lr=4e-4)
    train(source, range(3))
    refused({**copy.deepcopy(source.state_dict()), **changes}, message)


@pytest.mark.parametrize("name", ["settings", "steps", "exp_avg", "exp_avg_sq"])
def test_a_state_that_lacks_a_part_is_refused_with_its_name(name: str) -> None:
    state = AdamW(parameters()).state_dict()
    del state[name]
    refused(state, f"the state has no '{name}'; give what state_dict() returned")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "the state has no 'settings'; give what state_dict() returned"),
        (None, "the state is a NoneType; give what state_dict() returned"),
        ([1, 2], "the state is a list; give what state_dict() returned"),
        ({"state": {}, "param_groups": []}, "the state has no 'settings' (it looks like PyTorch's); give what"),
    ],
)
def test_what_is_no_state_at_all_is_refused(state: Any, message: str) -> None:
    refused(state, message)


def refused(state: Any, message: str) -> None:
    optimizer = AdamW(parameters(), lr=5e-4)
    train(optimizer, range(1))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(InputError) as error:
        optimizer.load_state_dict(state)
    assert str(error.value).startswith(f"optimizer: {message}")
    assert "\n" not in str(error.value)
    np.testing.assert_equal(optimizer.state_dict(), before)


def two_groups(first: int = 1, **own: Any) -> AdamW:
    ps = parameters()
    return AdamW([{"params": ps[:first], **own}, {"params": ps[first:]}])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (AdamW(parameters()), "1 parameter groups in the state, 2 here"),
        (two_groups(2), "parameter group 0: its parameters in the state differ from those here"),
    ],
)
def test_a_state_of_other_groups_is_refused(source: AdamW, message: str) -> None:
    optimizer = two_groups(lr=0.5)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(InputError, match=f"optimizer: {message}"):
        optimizer.load_state_dict(source.state_dict())
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("initial_lr", None, "parameter group 1: initial_lr: None is not allowed"),
        ("weight_decay", -1, "parameter group 1: weight_decay: -1 is not allowed"),
        ("params", 3, "parameter group 1: its parameters in the state differ from those here"),
    ],
)
def test_a_groups_wrong_setting_is_refused_with_the_groups_number(name: str, value: Any, message: str) -> None:
    optimizer = two_groups()
    state = optimizer.state_dict()
    state["groups"][1][name] = value
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(InputError, match=f"^optimizer: {message}"):
        optimizer.load_state_dict(state)
    np.testing.assert_equal(optimizer.state_dict(), before)
