"""AdamW against the paper's formula, its settings, and clipping by the global norm."""

from __future__ import annotations

from math import hypot, inf, nan, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from small_parameters import SETTINGS, SHAPES, Gradients, give, gradients, parameters, train

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import AdamWNumbers
from nanograd_gpt.backend.plain import optimizer as plain_optimizer
from nanograd_gpt.errors import InputError
from nanograd_gpt.nn import Linear, Parameter, Sequential
from nanograd_gpt.optim import AdamW, clip_grad_norm


class Formula:
    """Update a parameter by algorithm 2 of Loshchilov and Hutter 2019, with decay scaled by lr as in PyTorch."""

    def __init__(
        self,
        theta: npt.NDArray[np.float64],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        self.theta = theta.astype(np.float64)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.m, self.v, self.t = np.zeros(theta.shape), np.zeros(theta.shape), 0

    def step(self, g: npt.NDArray[np.float64]) -> None:
        (beta1, beta2), self.t = self.betas, self.t + 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.theta = self.theta - self.lr * (m_hat / (np.sqrt(v_hat) + self.eps) + self.weight_decay * self.theta)


# --- AdamW


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 2e-6)])
def test_adamw_follows_the_papers_formula(settings: dict[str, Any], dtype: Any, tolerance: float) -> None:
    ps = parameters(dtype)
    optimizer, formulas = AdamW(ps, **settings), [Formula(p.data, **settings) for p in ps]
    for seed in range(30):
        gs = gradients(seed, dtype)
        give(ps, list(gs))
        optimizer.step()
        for formula, g in zip(formulas, gs, strict=True):
            formula.step(g.astype(np.float64))
    for ours, expected in (
        (optimizer.flat.data, [f.theta for f in formulas]),
        (optimizer.exp_avg, [f.m for f in formulas]),
        (optimizer.exp_avg_sq, [f.v for f in formulas]),
    ):
        assert ours.dtype == dtype
        difference = ours - np.concatenate([a.ravel() for a in expected])
        assert np.linalg.norm(difference) <= tolerance * np.linalg.norm(ours)


@pytest.mark.parametrize("beta1", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kernels", [cpu, plain_optimizer], ids=["cpu", "plain"])
def test_a_small_gradient_after_a_large_one_is_not_lost_in_float32(kernels: Any, beta1: float) -> None:
    param, grad, exp_avg, exp_avg_sq = (np.zeros(1, dtype=np.float32) for _ in range(4))
    expected = 0.0
    for step, g in enumerate([1e4, 1e-4, -2e-4, 3e-4, -1e4, 1e-4], start=1):
        grad[0] = g
        numbers = np.array(AdamWNumbers.at_step(step, 1e-3, (beta1, 0.999), eps=1e-8, weight_decay=0.0))
        kernels.adamw(param, grad, exp_avg, exp_avg_sq, numbers, None)
        expected = beta1 * expected + (1 - beta1) * float(grad[0])
        assert abs(float(exp_avg[0]) - expected) <= 1e-6 * abs(expected)


def test_the_first_step_is_the_learning_rate_against_the_gradients_sign() -> None:
    ps = parameters()
    before = [p.data.copy() for p in ps]
    give(ps, list(gradients(1)))
    AdamW(ps, lr=0.01, weight_decay=0.0).step()
    for p, old, g in zip(ps, before, gradients(1), strict=True):
        np.testing.assert_allclose(p.data - old, -0.01 * np.sign(g), rtol=1e-5)


def test_every_parameter_decays_even_one_whose_gradient_is_0() -> None:
    ps = parameters()
    before = [p.data.copy() for p in ps]
    give(ps, [np.zeros(shape) for shape in SHAPES])
    AdamW(ps, lr=0.1, weight_decay=0.5).step()
    for p, old in zip(ps, before, strict=True):
        np.testing.assert_allclose(p.data, 0.95 * old, rtol=1e-15)


def test_a_parameter_without_a_gradient_neither_moves_nor_decays_nor_counts() -> None:
    ps = parameters()
    optimizer = AdamW(ps, weight_decay=0.5)
    before = ps[1].data.copy()
    for seed in range(3):
        g = gradients(seed)
        give(ps, [g[0], None, g[2]])
        optimizer.step()
    np.testing.assert_array_equal(ps[1].data, before)
    assert optimizer.steps == [3, 0, 3]
    assert not optimizer.state_dict()["exp_avg"][1].any()


def test_a_parameter_that_joins_late_moves_as_if_it_began_then() -> None:
    late, alone = parameters(), parameters()
    optimizer, reference = AdamW(late), AdamW(alone)
    for seed in range(4):
        g = gradients(seed)
        give(late, [g[0], None if seed < 2 else g[1], g[2]])
        optimizer.step()
        if seed >= 2:
            give(alone, list(g))
            reference.step()
    np.testing.assert_array_equal(late[1].data, alone[1].data)
    assert optimizer.steps == [4, 2, 4]


def test_memory_without_a_gradient_is_never_read() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    optimizer.flat.grad[...] = nan
    train(optimizer, range(1))
    optimizer.zero_grad()
    optimizer.flat.grad[...] = nan
    optimizer.step()
    assert all(np.isfinite(p.data).all() for p in ps)


def test_a_new_learning_rate_holds_from_the_next_step() -> None:
    ps = parameters()
    optimizer, formulas = AdamW(ps, lr=0.1), [Formula(p.data, lr=0.1) for p in ps]
    for seed, lr in enumerate((0.1, 0.02, 0.0)):
        optimizer.lr = lr
        give(ps, list(gradients(seed)))
        optimizer.step()
        for p, formula, g in zip(ps, formulas, gradients(seed), strict=True):
            formula.lr = lr
            formula.step(g)
            np.testing.assert_allclose(p.data, formula.theta, rtol=1e-14)


def test_zero_grad_forgets_all_gradients() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    give(ps, list(gradients(0)))
    optimizer.zero_grad()
    assert [p.grad for p in ps] == [None, None, None]


def test_steps_are_the_same_to_the_bit_when_repeated() -> None:
    first, second = parameters(np.float32), parameters(np.float32)
    for ps in (first, second):
        train(AdamW(ps), range(5), np.float32)
    for p, q in zip(first, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1e-3}, "lr: -0.001 is not allowed; choose a finite number >= 0"),
        ({"lr": nan}, "lr: nan is not allowed; choose a finite number >= 0"),
        ({"lr": inf}, "lr: inf is not allowed; choose a finite number >= 0"),
        ({"betas": (1.0, 0.9)}, "beta1: 1.0 is not allowed; choose a finite number in [0, 1)"),
        ({"betas": (0.9, -0.1)}, "beta2: -0.1 is not allowed; choose a finite number in [0, 1)"),
        ({"betas": (0.9, nan)}, "beta2: nan is not allowed; choose a finite number in [0, 1)"),
        ({"eps": 0.0}, "eps: 0.0 is not allowed; choose a finite number > 0"),
        ({"eps": inf}, "eps: inf is not allowed; choose a finite number > 0"),
        ({"weight_decay": -0.1}, "weight_decay: -0.1 is not allowed; choose a finite number >= 0"),
        ({"weight_decay": nan}, "weight_decay: nan is not allowed; choose a finite number >= 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_and_the_parameters_left_alone(
    settings: dict[str, Any], message: str
) -> None:
    ps = parameters()
    arrays = [p.data for p in ps]
    with pytest.raises(InputError) as error:
        AdamW(ps, **settings)
    assert str(error.value) == message
    assert all(p.data is a for p, a in zip(ps, arrays, strict=True))


def test_no_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="there are no parameters to train"):
        AdamW([])


# --- clipping


def clipped(gs: Gradients, max_norm: float) -> tuple[float, Gradients]:
    ps = parameters()
    give(ps, gs)
    norm = clip_grad_norm(ps, max_norm)
    assert norm.shape == ()
    return float(norm), [p.grad for p in ps]


def norm_of(gs: Gradients) -> float:
    return sqrt(sum(float((g**2).sum()) for g in gs if g is not None))


def test_large_gradients_are_scaled_to_the_norm_together() -> None:
    gs: Gradients = list(gradients(0))
    norm, after = clipped(gs, 0.5)
    assert norm == pytest.approx(norm_of(gs), rel=1e-14)
    assert norm > 0.5
    assert norm_of(after) == pytest.approx(0.5 * norm / (norm + 1e-6), rel=1e-14)
    for g, a in zip(gs, after, strict=True):
        np.testing.assert_allclose(a, g * (0.5 / (norm + 1e-6)), rtol=1e-14)


def test_small_gradients_stay_to_the_bit() -> None:
    gs: Gradients = list(gradients(0))
    norm, after = clipped(gs, 100.0)
    assert norm == pytest.approx(norm_of(gs), rel=1e-14)
    for g, a in zip(gs, after, strict=True):
        np.testing.assert_array_equal(a, g)


def test_the_norm_is_of_all_gradients_there_are() -> None:
    g = [np.zeros(SHAPES[0]), None, np.asarray(3.0)]
    g[0].flat[4] = 4.0
    norm, after = clipped(g, 1e9)
    assert norm == hypot(3, 4)
    assert after[1] is None


def test_clipping_changes_the_gradients_where_they_are() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    give(ps, list(gradients(0)))
    before = optimizer.flat.grad.copy()
    norm = clip_grad_norm(ps, 0.1)
    np.testing.assert_allclose(optimizer.flat.grad, before * (0.1 / (float(norm) + 1e-6)), rtol=1e-14)
    assert all(p.grad is not None and np.shares_memory(p.grad, optimizer.flat.grad) for p in ps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_clipping_within_a_step_gives_the_bits_of_clipping_before_it(max_norm: float, dtype: Any) -> None:
    clipping, alone = [[Parameter(p.data.astype(dtype)) for p in parameters()] for _ in range(2)]
    one, two = AdamW(clipping, lr=0.1), AdamW(alone, lr=0.1)
    for seed in range(3):
        for ps in (clipping, alone):
            give(ps, [None if seed == 1 and not g.ndim else g.astype(dtype) for g in gradients(seed)])
        before = [None if p.grad is None else p.grad.copy() for p in clipping]
        norm = one.step(max_norm)
        assert norm is not None
        assert norm == clip_grad_norm(alone, max_norm)
        two.step()
        for p, g in zip(clipping, before, strict=True):
            np.testing.assert_array_equal(p.grad, g)  # type: ignore[arg-type]  # None equals None
    for ours, theirs in ((one.flat.data, two.flat.data), (one.exp_avg, two.exp_avg), (one.exp_avg_sq, two.exp_avg_sq)):
        np.testing.assert_array_equal(ours, theirs)


def test_a_step_refuses_what_clipping_refuses() -> None:
    ps = parameters()
    optimizer = AdamW(ps)
    with pytest.raises(InputError, match="no parameter has a gradient"):
        optimizer.step(1.0)
    give(ps, list(gradients(0)))
    before = optimizer.flat.data.copy()
    with pytest.raises(InputError, match="max_norm: 0 is not allowed"):
        optimizer.step(0)
    np.testing.assert_array_equal(optimizer.flat.data, before)
    assert optimizer.steps == [0, 0, 0]


def test_gradients_of_0_stay_0() -> None:
    norm, after = clipped([np.zeros(shape) for shape in SHAPES], 1.0)
    assert norm == 0
    assert all(a is not None and not a.any() for a in after)


def test_a_norm_that_is_not_a_number_is_returned_and_not_hidden() -> None:
    gs = gradients(0)
    gs[1][2] = nan
    norm, after = clipped(list(gs), 1.0)
    assert np.isnan(norm)
    assert all(np.isnan(a).all() for a in after if a is not None)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, nan])
def test_a_max_norm_that_is_not_positive_is_refused(max_norm: float) -> None:
    with pytest.raises(InputError) as error:
        clipped(list(gradients(0)), max_norm)
    assert str(error.value) == f"max_norm: {max_norm} is not allowed; choose a number > 0"


def test_clipping_before_any_backward_is_refused() -> None:
    with pytest.raises(InputError) as error:
        clip_grad_norm(parameters(), 1.0)
    assert str(error.value) == "clip_grad_norm: no parameter has a gradient; call loss.backward() first"


def test_a_module_in_place_of_its_parameters_is_named() -> None:
    for model in (Linear(2, 2), Sequential(Linear(2, 2))):
        with pytest.raises(InputError, match=rf"^clip_grad_norm: got a {type(model).__name__}; give model.parameters"):
            clip_grad_norm(model, 1.0)  # type: ignore[arg-type]  # the wrong argument is what is tested


def test_repr_is_pytorchs() -> None:
    layer = Linear(2, 2)
    optimizer = AdamW([{"params": [layer.weight]}, {"params": [layer.bias], "weight_decay": 0.0}], lr=0.5)
    assert repr(optimizer) == (
        "AdamW (\nParameter Group 0\n    betas: (0.9, 0.999)\n    eps: 1e-08\n    initial_lr: 0.5\n    lr: 0.5\n"
        "    weight_decay: 0.01\nParameter Group 1\n    betas: (0.9, 0.999)\n    eps: 1e-08\n    initial_lr: 0.5\n"
        "    lr: 0.5\n    weight_decay: 0.0\n)"
    )


def test_the_groups_cannot_be_replaced() -> None:
    optimizer = AdamW(Linear(2, 2).parameters())
    with pytest.raises(InputError, match=r"^optimizer: param_groups cannot be replaced; set a group's settings or"):
        optimizer.param_groups = []
    assert len(optimizer.param_groups) == 1
