"""FlatParameters: one array for data, one for gradients, and views that stay valid during training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt import autograd
from nanograd_gpt.autograd import Leaf
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.flat import FlatParameters
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.optim import AdamW

SHAPES = [(2, 3), (4,), (), (1, 5), (0,)]
TINY = GPTConfig(vocab_size=11, context_length=4, emb_dim=4, n_heads=2, n_layers=1, drop_rate=0.0, qkv_bias=True)


def parameters(dtype: type = np.float32) -> list[Parameter]:
    rng = np.random.default_rng(0)
    return [Parameter(np.asarray(rng.standard_normal(shape), dtype=dtype)) for shape in SHAPES]


def give_gradient(p: Parameter, value: float) -> None:
    (p * value).sum().backward()


def batch() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    ids, targets = np.random.default_rng(1).integers(0, TINY.vocab_size, (2, 2, 4))
    return ids, targets


# --- the data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_keep_their_values_side_by_side_in_order(dtype: type) -> None:
    ps = parameters(dtype)
    values = [p.data.copy() for p in ps]
    flat = FlatParameters(ps)
    assert flat.data.dtype == flat.grad.dtype == dtype
    np.testing.assert_array_equal(flat.data, np.concatenate([v.ravel() for v in values]))
    for p, value in zip(ps, values, strict=True):
        assert p.shape == value.shape
        np.testing.assert_array_equal(p.data, value)


@pytest.mark.parametrize("multiple", [1, 4, 64])
def test_parameters_begin_at_multiples_of_the_backends_alignment(
    multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanograd_gpt.backend.cpu.PARAMETER_ALIGNMENT", multiple)
    ps = parameters()
    values = [p.data.copy() for p in ps]
    flat = FlatParameters(ps)
    gaps = np.ones(flat.data.size, dtype=bool)
    for p, value, end in zip(ps, values, flat.ends, strict=True):
        assert (end - p.size) % multiple == 0
        np.testing.assert_array_equal(p.data, value)
        assert np.shares_memory(p.data, flat.data) or not p.size
        gaps[end - p.size : end] = False
    assert not flat.data[gaps].any()
    assert not flat.grad[gaps].any()


def test_a_change_of_the_flat_array_is_a_change_of_the_parameters() -> None:
    ps = parameters()
    flat = FlatParameters(ps)
    flat.data[...] = np.arange(16)
    np.testing.assert_array_equal(ps[0].data, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(ps[2].data, 10)
    ps[1].data[0] = -1
    assert flat.data[6] == -1


def test_view_of_is_a_parameters_part_in_its_shape() -> None:
    flat = FlatParameters(parameters())
    other = np.arange(16)
    np.testing.assert_array_equal(flat.view_of(other, 0), [[0, 1, 2], [3, 4, 5]])
    assert [flat.view_of(other, i).shape for i in range(5)] == SHAPES
    assert flat.view_of(other, 2) == 10
    assert all(np.shares_memory(flat.view_of(other, i), other) for i in range(4))


def test_loading_a_state_writes_into_the_flat_array() -> None:
    model, other = GPTModel(TINY), GPTModel(TINY)
    flat = FlatParameters(model.parameters())
    other.out_head.weight.data[...] = 7
    model.load_state_dict(other.state_dict())
    assert (flat.data[-other.out_head.weight.size :] == 7).all()


# --- the gradients


def test_gradients_are_views_of_the_flat_array() -> None:
    ps = parameters()
    flat = FlatParameters(ps)
    flat.grad[...] = np.nan
    for i, p in enumerate(ps):
        give_gradient(p, i + 1)
    np.testing.assert_array_equal(flat.grad, np.repeat([1, 2, 3, 4], [6, 4, 1, 5]))
    for p in ps[:4]:
        assert p.grad is not None
        assert p.grad.shape == p.shape
        assert np.shares_memory(p.grad, flat.grad)


def test_a_models_gradients_are_written_straight_into_the_flat_array(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GPTModel(TINY)
    flat = FlatParameters(model.parameters())
    copied, accumulate_grad = [], autograd.accumulate_grad

    def watched(node: autograd.Node, gradient: Array, fresh: bool) -> None:
        if isinstance(node, Leaf):
            copied.append(gradient.shape)
        accumulate_grad(node, gradient, fresh)

    monkeypatch.setattr(autograd, "accumulate_grad", watched)
    ids, targets = batch()
    model.loss(ids, targets).backward()
    assert copied == []
    assert all(p.grad is not None and np.shares_memory(p.grad, flat.grad) for p in model.parameters())


def test_a_models_gradients_are_those_without_a_flat_array() -> None:
    plain, flattened = GPTModel(TINY).to(dtype=np.float64), GPTModel(TINY).to(dtype=np.float64)
    flat = FlatParameters(flattened.parameters())
    ids, targets = batch()
    for model in (plain, flattened):
        model.loss(ids, targets).backward()
    np.testing.assert_array_equal(flat.grad, np.concatenate([p.grad.ravel() for p in plain.parameters()]))


def test_gradients_of_several_backwards_add_up() -> None:
    model = GPTModel(TINY).to(dtype=np.float64)
    optimizer = AdamW(model.parameters())
    ids, targets = batch()
    apart = []
    for part in (slice(0, 1), slice(1, 2)):
        optimizer.zero_grad()
        model.loss(ids[part], targets[part]).backward()
        apart.append(optimizer.flat.grad.copy())
    model.loss(ids[:1], targets[:1]).backward()  # on top of the second
    expected = apart[0] + apart[1]
    assert np.linalg.norm(apart[0] - apart[1]) > 0.1 * np.linalg.norm(expected)
    assert np.linalg.norm(optimizer.flat.grad - expected) < 1e-14 * np.linalg.norm(expected)


def test_after_zero_grad_stale_memory_is_overwritten() -> None:
    model = GPTModel(TINY)
    optimizer = AdamW(model.parameters())
    ids, targets = batch()
    model.loss(ids, targets).backward()
    first = optimizer.flat.grad.copy()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    optimizer.flat.grad[...] = np.nan
    model.loss(ids, targets).backward()
    np.testing.assert_array_equal(optimizer.flat.grad, first)


def test_a_gradient_from_before_is_kept_and_added_to() -> None:
    ps = parameters()
    give_gradient(ps[0], 2)
    flat = FlatParameters(ps)
    np.testing.assert_array_equal(ps[0].grad, np.full((2, 3), 2))
    assert [p.grad is None for p in ps] == [False, True, True, True, True]
    give_gradient(ps[0], 3)
    np.testing.assert_array_equal(flat.grad[:6], np.full(6, 5))


# --- runs


def contiguous_groups(flat: FlatParameters, steps: list[int]) -> list[tuple[list[int], list[int]]]:
    """Members and their part of the flat array, as lists of indices."""
    return [
        (list(range(len(steps)))[members], list(range(flat.data.size))[part])
        for members, part in flat.contiguous_groups(steps)
    ]


def test_all_with_a_gradient_and_equal_steps_are_one_run() -> None:
    ps = parameters()
    flat = FlatParameters(ps)
    for p in ps:
        give_gradient(p, 1)
    assert contiguous_groups(flat, [3] * 5) == [([0, 1, 2, 3, 4], list(range(16)))]


def test_a_parameter_without_a_gradient_parts_two_runs() -> None:
    ps = parameters()
    flat = FlatParameters(ps)
    for i in (0, 2, 3):
        give_gradient(ps[i], 1)
    assert contiguous_groups(flat, [0] * 5) == [([0], list(range(6))), ([2, 3], list(range(10, 16)))]


def test_different_steps_part_two_runs() -> None:
    ps = parameters()
    flat = FlatParameters(ps)
    for p in ps[:4]:
        give_gradient(p, 1)
    assert contiguous_groups(flat, [1, 1, 2, 1, 1]) == [
        ([0, 1], list(range(10))),
        ([2], [10]),
        ([3], list(range(11, 16))),
    ]


def test_without_gradients_there_is_no_run() -> None:
    assert contiguous_groups(FlatParameters(parameters()), [0] * 5) == []


# --- what is refused


def test_a_model_moved_after_its_optimizer_was_made_is_refused_and_nothing_is_updated() -> None:
    model = GPTModel(TINY)
    optimizer = AdamW(model.parameters())
    ids, targets = batch()
    model.loss(ids, targets).backward()
    model.out_head.weight.data = model.out_head.weight.data.copy()
    before = optimizer.flat.data.copy()
    with pytest.raises(InputError) as error:
        optimizer.step()
    assert str(error.value).startswith("optimizer: its parameters' arrays were replaced (by .to, .data =")
    np.testing.assert_array_equal(optimizer.flat.data, before)
    assert set(optimizer.steps) == {0}


def test_a_model_moved_by_to_is_refused() -> None:
    model = GPTModel(TINY)
    optimizer = AdamW(model.parameters())
    model.to(dtype=np.float64)
    with pytest.raises(InputError, match="make a new optimizer"):
        optimizer.step()


def test_of_two_optimizers_the_later_one_has_the_parameters() -> None:
    model = GPTModel(TINY)
    earlier, later = AdamW(model.parameters()), AdamW(model.parameters())
    ids, targets = batch()
    model.loss(ids, targets).backward()
    with pytest.raises(InputError, match="make a new optimizer"):
        earlier.step()
    before = model.out_head.weight.data.copy()
    later.step()
    assert (model.out_head.weight.data != before).any()


def test_a_model_moved_and_given_a_new_optimizer_trains() -> None:
    model = GPTModel(TINY)
    AdamW(model.parameters())
    model.to(dtype=np.float64)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    ids, targets = batch()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert optimizer.flat.grad.dtype == np.float64


def test_mixed_dtypes_are_refused_and_the_parameters_left_where_they_were() -> None:
    ps = [Parameter(np.ones(2, dtype=np.float32)), Parameter(np.ones(2, dtype=np.float64))]
    arrays = [p.data for p in ps]
    with pytest.raises(InputError, match=r"must share one dtype and device, got .*float32.*float64") as error:
        FlatParameters(ps)
    assert "\n" not in str(error.value)
    assert all(p.data is a for p, a in zip(ps, arrays, strict=True))


def test_no_parameters_are_refused() -> None:
    with pytest.raises(InputError) as error:
        FlatParameters([])
    assert str(error.value) == "optimizer: there are no parameters to train"


def test_a_parameter_given_twice_is_refused() -> None:
    p = parameters()[0]
    with pytest.raises(InputError, match=r"twice|more than once|same parameter|duplicate"):
        FlatParameters([p, p])
