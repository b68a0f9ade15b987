"""Copies and pickles: a model with its optimizer trains on to the same bits; everything else compares equal."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from training.small import small_loader, small_model

from nanograd_gpt.autograd import Leaf
from nanograd_gpt.backend.cpu.matmul import as_contiguous_view
from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel, MultiHeadAttention
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.tensor import Tensor

Copy = Callable[[Any], Any]

COPIES: dict[str, Copy] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle, protocol 2": lambda x: pickle.loads(pickle.dumps(x, protocol=2)),
}
every_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)

SIZES: dict[str, dict[str, Any]] = {
    "plain": {},
    "with qkv_bias": {"qkv_bias": True},
    "tied": {"tied_head": True},
    "2 layers": {"n_layers": 2},
}
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)

Batches = list[Any]


def batches() -> Batches:
    return [*small_loader()]


def trained(groups: bool = False, **sizes: Any) -> tuple[GPTModel, AdamW]:
    """A model and optimizer after two updates, with gradients of a third, and dropout's stream advanced."""
    model = small_model(1, drop_rate=0.3, **sizes)
    optimizer = AdamW(decay_groups(model, 0.1) if groups else model.parameters(), lr=1e-2)
    train(model, optimizer, batches()[:2])
    inputs, targets = batches()[2]
    model.loss(inputs, targets).backward()
    return model, optimizer


def train(model: GPTModel, optimizer: AdamW, some: Batches) -> None:
    for inputs, targets in some:
        optimizer.zero_grad()
        model.loss(inputs, targets).backward()
        optimizer.step()


def train_on(model: GPTModel, optimizer: AdamW) -> list[bytes]:
    """Train on, accumulating onto the present gradients first; returns the bytes of all parameters and moments."""
    inputs, targets = batches()[3]
    model.loss(inputs, targets).backward()
    optimizer.step()
    train(model, optimizer, batches()[4:])
    arrays = [*model.state_dict().values(), optimizer.exp_avg, optimizer.exp_avg_sq]
    return [a.tobytes() for a in arrays]


def attentions(model: GPTModel) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


def qkv(attention: MultiHeadAttention) -> list[Any]:
    return [layer.weight.data for layer in (attention.W_query, attention.W_key, attention.W_value)]


def assert_laid_out(model: GPTModel, optimizer: AdamW) -> None:
    """Assert that parameters, gradients and their buffers are views into the optimizer's flat arrays."""
    flat = optimizer.flat
    assert sorted(map(id, model.parameters())) == sorted(map(id, optimizer.parameters))
    for i, p in enumerate(optimizer.parameters):
        assert isinstance(p, Parameter)
        assert isinstance(p.node, Leaf)
        assert p.data.base is flat.data
        assert p.node.buffer is not None
        assert p.node.buffer.base is flat.grad
        assert p.grad is None or p.grad is p.node.buffer
        np.testing.assert_array_equal(flat.view_of(flat.data, i), p.data)
    assert [p for group in optimizer.param_groups for p in map(id, group["params"])] == [*map(id, optimizer.parameters)]


# --- a model and its optimizer


@every_copy
@every_size
@pytest.mark.parametrize("groups", [False, True], ids=["one group", "groups"])
@pytest.mark.parametrize("optimizer_first", [False, True], ids=["model first", "optimizer first"])
@pytest.mark.parametrize("twin_first", [False, True], ids=["original trains first", "twin trains first"])
def test_a_twin_trains_on_to_the_bits_of_the_original_and_leaves_it_alone(
    copied: Copy, sizes: dict[str, Any], groups: bool, optimizer_first: bool, twin_first: bool
) -> None:
    model, optimizer = trained(groups, **sizes)
    if optimizer_first:
        second, twin = copied((optimizer, model))
    else:
        twin, second = copied((model, optimizer))
    for pair in ((model, optimizer), (twin, second)):
        assert_laid_out(*pair)
    assert not {*map(id, model.parameters())} & {*map(id, twin.parameters())}
    pairs = [(twin, second), (model, optimizer)] if twin_first else [(model, optimizer), (twin, second)]
    first, then = (train_on(*pair) for pair in pairs)
    assert first == then
    expected = train_on(*trained(groups, **sizes))
    assert first == expected
    assert model.rng.state() == twin.rng.state()


@every_copy
def test_queries_keys_and_values_of_a_copy_are_one_product_still(copied: Copy) -> None:
    new = small_model(n_layers=2)
    (model, optimizer), (two_groups, in_groups) = trained(n_layers=2), trained(groups=True, n_layers=2, qkv_bias=True)
    for original in (new, model, two_groups, (model, optimizer)[0], (two_groups, in_groups)[0]):
        assert len(attentions(copied(original))) == 2
        for attention in attentions(copied(original)):
            assert as_contiguous_view(qkv(attention)) is not None
    for made in (copied((model, optimizer))[0], copied((optimizer, model))[1]):
        assert all(as_contiguous_view(qkv(attention)) is not None for attention in attentions(made))


@every_copy
def test_a_tied_head_is_one_parameter_in_the_copy_too(copied: Copy) -> None:
    twin, _ = copied(trained(tied_head=True))
    assert twin.tok_emb.weight is twin.out_head.weight


@every_copy
def test_a_stream_that_model_and_loader_share_is_shared_by_their_copies(copied: Copy) -> None:
    rng = TorchStream(123)
    model = GPTModel({**small_model().config.to_dict(), "drop_rate": 0.5}, rng=rng)
    loader = small_loader()
    loader.rng = rng
    twin, other_loader = copied((model, loader))
    assert twin.rng is twin.drop_emb.rng is other_loader.rng
    for made, its_loader in ((model, loader), (twin, other_loader)):
        made.results = [made.loss(inputs, targets).item() for inputs, targets in its_loader]
    assert model.results == twin.results


@every_copy
def test_an_optimizer_that_has_lost_its_model_is_refused(copied: Copy) -> None:
    model, optimizer = trained()
    AdamW(model.parameters())
    with pytest.raises(InputError, match=r"arrays were replaced .*; make a new optimizer"):
        copied(optimizer)


# --- each alone


@every_copy
@every_size
def test_a_model_alone_has_its_values_gradients_and_mode_and_nothing_of_the_optimizers(
    copied: Copy, sizes: dict[str, Any]
) -> None:
    model, optimizer = trained(**sizes)
    twin = copied(model.eval())
    assert (type(twin), twin.training, twin.config) == (GPTModel, False, model.config)
    for (name, p), (its_name, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert name == its_name
        np.testing.assert_array_equal(p.data, q.data)
        np.testing.assert_array_equal(p.grad, q.grad)
        assert not np.shares_memory(p.data, q.data)
        assert not np.shares_memory(p.grad, q.grad)
        assert isinstance(q.node, Leaf)
        assert q.node.buffer is None
    assert_laid_out(model, optimizer)
    second = AdamW(twin.parameters(), lr=1e-2)
    second.load_state_dict(optimizer.state_dict())
    model.train()
    assert train_on(twin.train(), second) == train_on(model, optimizer)


@every_copy
def test_an_optimizer_alone_has_parameters_of_its_own(copied: Copy) -> None:
    model, optimizer = trained(groups=True)
    optimizer.param_groups[1]["lr"] = 0.5
    twin = copied(optimizer)
    np.testing.assert_equal(twin.state_dict(), optimizer.state_dict())
    assert [g["lr"] for g in twin.param_groups] == [1e-2, 0.5]
    before = [p.data.copy() for p in model.parameters()]
    twin.step()
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)
    optimizer.step()
    for p, q in zip(optimizer.parameters, twin.parameters, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@every_copy
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
@pytest.mark.parametrize("made", ["a Tensor", "a leaf", "a Parameter", "a leaf with a gradient", "a part of a whole"])
def test_a_tensor_has_its_values_its_gradient_and_memory_of_its_own(
    copied: Copy, made: str, shape: tuple[int, ...]
) -> None:
    data = np.asarray(np.random.default_rng(0).standard_normal((2, *shape)), dtype=np.float32)[1, ...]
    x = Parameter(data) if made == "a Parameter" else Tensor(data, requires_grad=made != "a Tensor")
    if made == "a leaf with a gradient":
        (x * 2.0).sum().backward()
    y = copied(x)
    assert (type(y), y.dtype, y.shape, y.requires_grad) == (type(x), x.dtype, shape, x.requires_grad)
    assert isinstance(y.data, np.ndarray)
    np.testing.assert_array_equal(y.data, x.data)
    np.testing.assert_equal(y.grad, x.grad)
    assert not np.shares_memory(x.data, y.data)
    if x.requires_grad:
        (y * 3.0).sum().backward()
        np.testing.assert_array_equal(y.grad, np.full(shape, 3.0 if made != "a leaf with a gradient" else 5.0))
        assert x.grad is None or (x.grad == 2).all()


@every_copy
def test_a_tensor_that_is_there_twice_is_there_twice_in_the_copy(copied: Copy) -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    a, b, c = copied([x, x, x.detach()])
    assert a is b
    assert c.data is a.data


@every_copy
def test_a_tensor_that_an_operation_made_is_refused(copied: Copy) -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    for y in (x * 2, (x * 2)[0], small_model()(np.array([[1, 2]]))):
        with pytest.raises(RuntimeError, match=r"cannot be copied or pickled; use \.detach\(\)"):
            copied([y])
        np.testing.assert_array_equal(copied(y.detach()).data, y.data)
    with no_grad():
        np.testing.assert_array_equal(copied(x * 2).data, [2, 2])
    assert copy.copy(x * 2).requires_grad  # which shares array and graph


# --- what belongs to them


@every_copy
@pytest.mark.parametrize("rng", [Generator(5, 2), TorchStream(7), TorchStream(8, "mcg31")], ids=["own", "torch", "mcg"])
def test_a_stream_goes_on_where_it_was(copied: Copy, rng: Any) -> None:
    rng.normal((3,))
    twin = copied(rng)
    assert twin.state() == rng.state()
    for _ in range(2):
        np.testing.assert_array_equal(twin.normal((5,)), rng.normal((5,)))
        np.testing.assert_array_equal(twin.keep_mask((5, 7), 0.5), rng.keep_mask((5, 7), 0.5))


@every_copy
@pytest.mark.parametrize("value", [GPTConfig(), Sampling(0.5, 3), GPTConfig(qkv_bias=True, drop_rate=0.0)])
def test_settings_are_equal_to_their_copies(copied: Copy, value: Any) -> None:
    assert copied(value) == value


@every_copy
def test_a_cache_goes_on_by_itself(copied: Copy) -> None:
    model = small_model().eval()
    cache = model.new_cache(2)
    first, second = np.arange(8).reshape(2, 2, 2)
    with no_grad():
        model(first, cache=cache)
        twin = copied(cache)
        expected = model(second, cache=cache).data
        np.testing.assert_array_equal(twin.lengths, [2, 2])
        np.testing.assert_array_equal(model(second, cache=twin).data, expected)


@every_copy
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_loader_goes_on_with_the_same_batches(copied: Copy, stride: int) -> None:
    loader = small_loader(stride=stride)
    twin = copied(loader)
    for _ in range(2):
        for ours, its in zip(loader, twin, strict=True):
            np.testing.assert_array_equal(ours, its)


def test_a_datasets_pickle_holds_each_token_once() -> None:
    dataset = small_loader(stride=1).dataset
    n = len(dataset.ids)
    assert len(dataset) == n - 8
    assert len(pickle.dumps(dataset)) < 8 * n + 1000
    assert copy.deepcopy(dataset).input_ids.base is not None
    with pytest.raises(ValueError, match="read-only"):
        copy.deepcopy(dataset).input_ids[0, 0] = 1
