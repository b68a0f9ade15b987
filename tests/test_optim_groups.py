"""AdamW with parameter groups: own settings, one kernel call for adjacent parameters, and changed rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_parameters import SHAPES, give, gradients, parameters, train

from nanograd_gpt.backend import cpu
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.optim import AdamW, clip_grad_norm
from nanograd_gpt.tensor import Tensor

OWN: list[dict[str, Any]] = [
    {"lr": 0.1, "weight_decay": 0.5},
    {"betas": (0.5, 0.6), "eps": 1e-3},
    {"lr": 0.0},
]
TINY = GPTConfig(vocab_size=11, context_length=4, emb_dim=4, n_heads=2, n_layers=2, drop_rate=0.0)


def grouped(ps: list[Parameter], **defaults: Any) -> AdamW:
    return AdamW([{"params": [p], **own} for p, own in zip(ps, OWN, strict=True)], **defaults)


def kernel_calls(optimizer: AdamW, monkeypatch: pytest.MonkeyPatch) -> int:
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "adamw", lambda *arrays, **settings: calls.append(settings))
        optimizer.step()
    return len(calls)


# --- steps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_group_moves_as_an_optimizer_of_its_own_would_move_it(dtype: Any) -> None:
    together, apart = parameters(dtype), parameters(dtype)
    optimizer = grouped(together, lr=0.02)
    alone = [AdamW([p], **{"lr": 0.02, **own}) for p, own in zip(apart, OWN, strict=True)]
    for seed in range(5):
        for ps in (together, apart):
            give(ps, list(gradients(seed, dtype)))
        for o in (optimizer, *alone):
            o.step()
    for p, q in zip(together, apart, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_one_group_given_as_such_moves_to_the_bit_as_parameters_alone() -> None:
    one, same = parameters(np.float32), parameters(np.float32)
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.3}
    train(AdamW(one, **settings), range(5), np.float32)
    train(AdamW([{"params": same, **settings}]), range(5), np.float32)
    for p, q in zip(one, same, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_the_kernel_is_called_once_a_group_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPTModel(TINY)
    ids, targets = np.random.default_rng(1).integers(0, 11, (2, 2, 4))
    for given, calls in ((model.parameters(), 1), (decay_groups(model, 0.1), 2)):
        optimizer = AdamW(given)
        model.loss(ids, targets).backward()
        assert kernel_calls(optimizer, monkeypatch) == calls
        optimizer.zero_grad()


def test_an_empty_group_is_no_hindrance() -> None:
    one, same = parameters(), parameters()
    train(AdamW(one), range(3))
    train(AdamW([{"params": []}, {"params": same}, {"params": []}]), range(3))
    for p, q in zip(one, same, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_only_matrices_decay_in_decay_groups() -> None:
    model = GPTModel(TINY)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    optimizer = AdamW(decay_groups(model, 0.5), lr=0.1)
    for p in model.parameters():
        (p * 0.0).sum().backward()
    optimizer.step()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.data, (0.95 if p.ndim >= 2 else 1.0) * before[name], rtol=1e-6)


def test_iterators_and_leaf_tensors_are_trained_as_parameters_are() -> None:
    one, two = parameters(), [Tensor(p.data.copy(), requires_grad=True) for p in parameters()]
    for optimizer in (AdamW(iter(one)), AdamW(t for t in two)):  # type: ignore[misc]  # an iterator or a generator
        train(optimizer, range(3))
    for p, q in zip(one, two, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_learning_rate_of_0_moves_nothing_and_counts() -> None:
    ps = parameters()
    before = [p.data.copy() for p in ps]
    optimizer = AdamW(ps, lr=0, weight_decay=0.5)
    train(optimizer, range(2))
    for p, old in zip(ps, before, strict=True):
        np.testing.assert_array_equal(p.data, old)
    assert optimizer.steps == [2, 2, 2]


def test_gradients_set_to_0_stay_there_and_count() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    give(ps, [gradients(0)[0], None, None])
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(ps[0].grad, np.zeros(SHAPES[0]))
    assert [p.grad is None for p in ps] == [False, True, True]
    optimizer.step()
    assert optimizer.steps == [1, 0, 0]


# --- settings of several groups


def test_a_groups_learning_rate_may_be_changed_alone() -> None:
    ps = parameters()
    optimizer = grouped(ps, lr=0.02)
    before = [p.data.copy() for p in ps]
    optimizer.param_groups[0]["lr"] = 0
    optimizer.param_groups[2]["lr"] = 0.5
    train(optimizer, range(1))
    assert [bool((p.data != old).any()) for p, old in zip(ps, before, strict=True)] == [False, True, True]


def test_setting_lr_moves_every_group_in_proportion_to_what_it_was_made_with() -> None:
    optimizer = grouped(parameters(), lr=0.02)
    rates = [0.1, 0.02, 0.0]
    assert (optimizer.lr, [g["lr"] for g in optimizer.param_groups]) == (0.02, rates)
    for lr in (0.0, 0.01, 0.04, 0.02):  # through 0 and back
        optimizer.lr = lr
        assert optimizer.lr == lr
        np.testing.assert_allclose([g["lr"] for g in optimizer.param_groups], np.array(rates) * lr / 0.02, rtol=1e-15)
    assert [g["lr"] for g in optimizer.param_groups] == rates


def test_groups_made_without_a_rate_of_their_own_follow_lr_to_the_bit() -> None:
    optimizer = AdamW(decay_groups(GPTModel(TINY), 0.1), lr=3e-4)
    optimizer.lr = 0.1 + 0.2
    assert [g["lr"] for g in optimizer.param_groups] == [0.1 + 0.2] * 2


def test_of_one_group_lr_is_that_groups_both_ways() -> None:
    optimizer = AdamW([{"params": parameters(), "lr": 0.5}], lr=0.1)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.3
    assert optimizer.param_groups[0]["lr"] == 0.3
    optimizer.param_groups[0]["lr"] = 0.2
    assert optimizer.lr == 0.2


def test_a_rate_in_no_proportion_is_refused_and_changes_nothing() -> None:
    optimizer = grouped(parameters(), lr=0)
    with pytest.raises(InputError, match=r"lr: the initial rate is 0, .*; set each in optimizer\.param_groups"):
        optimizer.lr = 0.1
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.0, 0.0]


def test_settings_as_attributes_are_those_of_all_groups() -> None:
    optimizer = AdamW(decay_groups(GPTModel(TINY), 0.1))
    assert (optimizer.betas, optimizer.eps) == ((0.9, 0.999), 1e-8)
    with pytest.raises(InputError, match=r"weight_decay differs between the groups \(\[0\.1, 0\.0\]\)"):
        print(optimizer.weight_decay)
    optimizer.weight_decay = 0.3
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.3]


# --- refusals


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "optimizer: there are no parameters to train"),
        (iter([]), "optimizer: there are no parameters to train"),
        ([{"params": []}], "optimizer: there are no parameters to train"),
        ([np.ones(2)], "optimizer: parameter 0 is an ndarray, not a Tensor; give model.parameters()"),
        ([*parameters(), ("name", 1)], "optimizer: parameter 3 is a tuple, not a Tensor; give model.parameters()"),
        (
            [Tensor(np.ones(2))],
            "optimizer: parameter 0, a Tensor of shape (2,), does not require a gradient; make it with "
            "requires_grad=True, or leave it out",
        ),
        (
            [parameters()[0] * 2],
            "optimizer: parameter 0, a Tensor of shape (2, 3), is the result of an operation, so it is not a leaf; "
            "give the Tensors it was computed from",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        AdamW(given)
    assert str(error.value) == message


def test_a_parameter_in_two_groups_is_refused_and_left_alone() -> None:
    a, b, _ = parameters()
    arrays = a.data, b.data
    with pytest.raises(InputError, match="given twice"):
        AdamW([{"params": [a, b]}, {"params": [b]}])
    assert all(p.data is array for p, array in zip((a, b), arrays, strict=True))


# --- clipping


def test_clipping_takes_an_iterator_or_one_tensor() -> None:
    lists, iterators, (one, *_) = parameters(), parameters(), parameters()
    for ps in (lists, iterators):
        give(ps, list(gradients(0)))
    assert float(clip_grad_norm(lists, 0.1)) == float(clip_grad_norm(iter(iterators), 0.1))
    for p, q in zip(lists, iterators, strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
    (one * 3.0).sum().backward()
    assert float(clip_grad_norm(one, 1.0)) == pytest.approx(3 * np.sqrt(6))


def test_a_max_norm_of_numpys_clips_as_pythons_does() -> None:
    for max_norm in (np.float64(0.1), np.float32(0.5), np.int64(1), np.asarray(0.1)):
        results = []
        for limit in (max_norm, float(max_norm)):
            ps = parameters(np.float32)
            give(ps, list(gradients(0, np.float32)))
            clip_grad_norm(ps, limit)
            results.append([p.grad.tobytes() for p in ps if p.grad is not None])
        assert results[0] == results[1]


@pytest.mark.parametrize(
    ("given", "max_norm", "message"),
    [
        (parameters(), True, "max_norm: True is not allowed; choose a number > 0"),
        (parameters(), "1", "max_norm: '1' is not allowed; choose a number > 0"),
        ([np.ones(2)], 1.0, "clip_grad_norm: expected Tensors, got a ndarray; give model.parameters()"),
    ],
)
def test_what_cannot_be_clipped_is_refused(given: Any, max_norm: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        clip_grad_norm(given, max_norm)
    assert str(error.value) == message
