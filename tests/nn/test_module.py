"""Module: children and their names, mode, state, and repr."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear
from nanograd_gpt.nn.module import Module, Parameter, Sequential
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor


def parameter(*shape: int) -> Parameter:
    return Parameter(np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape))


class Inner(Module):
    def __init__(self) -> None:
        self.bias = parameter(3)
        self.rate = 0.5  # no part: a number

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Outer(Module):
    def __init__(self) -> None:
        self.first = Inner()
        self.weight = parameter(2, 3)
        self.row = Sequential(Inner(), Sequential(Inner()))
        self.frozen = Tensor(np.ones(3))  # no part: training does not change it
        self.in_a_list = [Inner()]  # no part: it has no name
        self.last = Inner()


NAMES = ["first.bias", "weight", "row.0.bias", "row.1.0.bias", "last.bias"]


def linear(seed: int = 0, bias: bool = True) -> Linear:
    return Linear(3, 2, bias=bias, rng=Generator(seed))


# --- names and the walk


def test_parameters_are_named_by_their_path_in_the_order_of_assignment() -> None:
    assert [name for name, _ in Outer().named_parameters()] == NAMES


def test_parameters_come_in_the_order_of_their_names() -> None:
    outer = Outer()
    assert [id(p) for p in outer.parameters()] == [id(p) for _, p in outer.named_parameters()]


def test_modules_are_this_one_and_all_within() -> None:
    outer = Outer()
    parts: list[Any] = [outer, outer.first, outer.row, outer.row[0], outer.row[1], outer.row[1][0], outer.last]
    assert [id(m) for m in outer.modules()] == [id(m) for m in parts]


def test_a_parameter_assigned_anew_keeps_its_place_and_one_deleted_is_gone() -> None:
    outer = Outer()
    outer.weight = new = parameter(4, 4)
    assert [name for name, _ in outer.named_parameters()] == NAMES
    assert dict(outer.named_parameters())["weight"] is new
    del outer.first
    assert [name for name, _ in outer.named_parameters()] == NAMES[1:]


def test_a_parameter_with_two_names_is_one_parameter() -> None:
    outer = Outer()
    outer.last.bias = outer.first.bias
    assert [name for name, _ in outer.named_parameters()] == NAMES[:-1]  # by the first of them
    assert list(outer.state_dict()) == NAMES[:-1]
    assert len(outer.parameters()) == 4
    assert outer.n_parameters == 3 + 6 + 3 + 3


def test_n_parameters_counts_numbers() -> None:
    assert Outer().n_parameters == 4 * 3 + 6
    assert Sequential(GELU()).n_parameters == 0


def test_a_bias_that_is_left_out_is_no_parameter() -> None:
    assert list(linear(bias=False).state_dict()) == ["weight"]
    assert list(linear().state_dict()) == ["weight", "bias"]


def test_a_parameter_is_a_leaf_that_wants_a_gradient() -> None:
    p = parameter(3)
    (p * 2).sum().backward()
    assert p.requires_grad
    np.testing.assert_array_equal(p.grad, [2, 2, 2])


def test_a_parameter_of_integers_is_refused() -> None:
    with pytest.raises(TypeError, match="a gradient needs float"):
        Parameter(np.arange(3))


def test_device_is_where_the_parameters_are() -> None:
    assert Outer().device == "cpu"


# --- calling


def test_calling_a_module_runs_its_forward() -> None:
    np.testing.assert_array_equal(Inner()(Tensor(np.ones(3))).data, [1, 2, 3])


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="Outer has no forward"):
        Outer()(1)


def test_sequential_runs_its_layers_one_after_the_other() -> None:
    first, second = linear(1), GELU()
    x = Tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
    np.testing.assert_array_equal(Sequential(first, second)(x).data, F.gelu(first(x)).data)
    assert Sequential()(x) is x


def test_sequential_is_a_row_of_layers() -> None:
    layers = GELU(), GELU(), Inner()
    row = Sequential(*layers)
    assert len(row) == 3
    assert [id(layer) for layer in row] == [id(layer) for layer in layers]
    assert row[1] is layers[1]
    assert row[-1] is layers[2]
    with pytest.raises(IndexError):
        row[3]


# --- mode


def test_modules_start_in_training_mode() -> None:
    assert all(m.training for m in Outer().modules())


def test_eval_and_train_reach_every_module_and_return_this_one() -> None:
    outer = Outer()
    assert outer.eval() is outer
    assert not any(m.training for m in outer.modules())
    assert outer.train() is outer
    assert all(m.training for m in outer.modules())
    outer.train(False)
    assert not any(m.training for m in outer.modules())


def test_the_mode_of_a_part_leaves_the_others_alone() -> None:
    outer = Outer()
    outer.row.eval()
    assert [m.training for m in outer.modules()] == [True, True, False, False, False, False, True]
    assert Outer().training


def test_dropout_zeroes_and_scales_in_training_and_does_nothing_else() -> None:
    drop = Dropout(0.25, rng=Generator(3))
    x = Tensor(np.ones((100, 100), dtype=np.float32))
    y = drop(x).data
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert abs((y == 0).mean() - 0.25) < 0.02  # 4 standard errors
    assert drop.eval()(x) is x


def test_dropout_of_rate_0_draws_nothing() -> None:
    rng = Generator(3)
    x = Tensor(np.ones(5))
    assert Dropout(0.0, rng=rng)(x) is x
    assert rng.state() == Generator(3).state()


# --- layers


def test_linear_multiplies_by_its_transposed_weight_and_adds_its_bias() -> None:
    layer = linear()
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    expected = x @ layer.weight.data.T + layer.bias.data
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-6)


def test_layer_norm_of_a_row_has_mean_0_and_variance_1_and_then_scale_and_shift() -> None:
    norm = LayerNorm(64).to(dtype=np.float64)
    x = np.random.default_rng(0).normal(5, 3, (4, 64))
    y = norm(Tensor(x)).data
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-14)
    biased = x.var(axis=-1)
    np.testing.assert_allclose(y.var(axis=-1), biased / (biased + 1e-5), rtol=1e-13)
    norm.scale.data[...], norm.shift.data[...] = 2, 3
    np.testing.assert_allclose(norm(Tensor(x)).data, 2 * y + 3, rtol=1e-13)


def test_embedding_looks_rows_up() -> None:
    table = Embedding(5, 3, rng=Generator(0))
    ids = np.array([[4, 0], [4, 1]])
    np.testing.assert_array_equal(table(ids).data, table.weight.data[ids])


# --- state


def test_state_dict_holds_the_parameters_themselves() -> None:
    outer = Outer()
    state = outer.state_dict()
    assert list(state) == NAMES
    assert all(state[name] is p.data for name, p in outer.named_parameters())


def test_a_state_comes_back_into_the_same_memory() -> None:
    source, target = linear(1), linear(2)
    arrays = [p.data for p in target.parameters()]
    target.load_state_dict(source.state_dict())
    assert all(p.data is array for p, array in zip(target.parameters(), arrays, strict=True))
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)
        assert not np.shares_memory(target.state_dict()[name], array)


def test_a_loaded_state_takes_the_models_dtype() -> None:
    target = linear(2)
    target.load_state_dict({name: a.astype(np.float64) for name, a in linear(1).state_dict().items()})
    assert target.weight.dtype == np.float32
    np.testing.assert_array_equal(target.weight.data, linear(1).weight.data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "state_dict: bias (2,) is missing"),
        ({"bias": np.zeros(3)}, "state_dict: bias has shape (3,), this model's is (2,)"),
        ({"bias": np.zeros((2, 1))}, "state_dict: bias has shape (2, 1), this model's is (2,)"),
        (
            {"bias": np.zeros(2, dtype=complex)},
            "state_dict: bias has dtype complex128; expected floating-point numbers",
        ),
        ({"biases": np.zeros(2)}, "state_dict: biases (2,) is not a part of this model"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change: dict[str, Any], message: str) -> None:
    module = linear(1)
    before = {name: a.copy() for name, a in module.state_dict().items()}
    state = {name: a for name, a in (linear(2).state_dict() | change).items() if a is not None}
    with pytest.raises(InputError) as error:
        module.load_state_dict(state)
    assert str(error.value) == message
    for name, array in before.items():
        np.testing.assert_array_equal(module.state_dict()[name], array)


# --- to


def test_to_a_dtype_changes_every_parameter_and_returns_the_module() -> None:
    outer = Outer()
    before = {name: a.copy() for name, a in outer.state_dict().items()}
    assert outer.to(dtype=np.float64) is outer
    for name, array in outer.state_dict().items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, before[name])


def test_to_forgets_gradients() -> None:
    module = linear()
    module(Tensor(np.ones((1, 3), dtype=np.float32))).sum().backward()
    assert module.weight.grad is not None
    module.to(dtype=np.float64)
    assert [p.grad for p in module.parameters()] == [None, None]


def test_to_the_device_where_it_is_copies_nothing() -> None:
    module = linear()
    arrays = [p.data for p in module.parameters()]
    module.to("cpu")
    assert all(p.data is array for p, array in zip(module.parameters(), arrays, strict=True))


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_after_to_a_dtype_gradients_are_of_that_dtype(with_optimizer: bool) -> None:
    module, reference = linear(), linear().to(dtype=np.float64)
    if with_optimizer:
        AdamW(module.parameters())  # of the module as it was, with gradients in float32
    module.to(dtype=np.float64)
    x = Tensor(np.random.default_rng(0).standard_normal((4, 3)))
    for m in (module, reference):
        (m(x) * m(x)).sum().backward()
    for p, q in zip(module.parameters(), reference.parameters(), strict=True):
        assert p.grad is not None
        assert p.grad.dtype == np.float64
        np.testing.assert_array_equal(p.grad, q.grad)


# --- repr


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (linear(), "Linear(d_in=3, d_out=2, bias=True)"),
        (linear(bias=False), "Linear(d_in=3, d_out=2, bias=False)"),
        (Embedding(7, 4), "Embedding(7, 4)"),
        (LayerNorm(4), "LayerNorm(4)"),
        (Dropout(0.1), "Dropout(rate=0.1)"),
        (GELU(), "GELU()"),
        (Inner(), "Inner(bias=float32[3])"),
        (Sequential(), "Sequential()"),
    ],
    ids=repr,
)
def test_repr_shows_a_layers_sizes_and_rate(module: Module, text: str) -> None:
    assert repr(module) == text


def test_repr_nests_modules_by_name_below_the_modules_own_parameters() -> None:
    assert repr(Sequential(linear(), GELU())) == (
        "Sequential(\n  (0): Linear(d_in=3, d_out=2, bias=True)\n  (1): GELU()\n)"
    )
    assert repr(Outer()).splitlines() == [
        "Outer(",
        "  weight=float32[2, 3]",
        "  (first): Inner(bias=float32[3])",
        "  (row): Sequential(",
        "    (0): Inner(bias=float32[3])",
        "    (1): Sequential(",
        "      (0): Inner(bias=float32[3])",
        "    )",
        "  )",
        "  (last): Inner(bias=float32[3])",
        ")",
    ]


def test_a_tensor_cannot_take_a_parameters_place() -> None:
    layer = Linear(2, 3, rng=Generator(1))
    with pytest.raises(TypeError, match=r"Linear\.weight is a Parameter .* write to weight\.data"):
        layer.weight = Tensor(np.zeros((3, 2)))  # type: ignore[assignment]  # the wrong type is what is tested
    with no_grad(), pytest.raises(TypeError, match=r"Linear\.weight is a Parameter"):
        layer.weight -= 0.1  # type: ignore[misc, assignment]  # likewise
    assert len(layer.parameters()) == 2


@pytest.mark.parametrize("dtype", [int, bool, "uint8"])
def test_parameters_stay_floating_point(dtype: Any) -> None:
    with pytest.raises(TypeError, match="a parameter holds floating-point numbers"):
        Linear(2, 2, rng=Generator(1)).to(dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "mps", np.float64])
def test_an_unknown_device_is_named(device: Any) -> None:
    with pytest.raises(InputError, match=r"device: .* is unknown; choose auto, cpu or cuda"):
        Linear(2, 2, rng=Generator(1)).to(device)


@pytest.mark.parametrize("rng", [123, np.random.default_rng(1)])
def test_a_stream_that_is_none_of_ours_is_named(rng: Any) -> None:
    for make in (lambda: Linear(2, 2, rng=rng), lambda: Embedding(2, 2, rng=rng), lambda: Dropout(0.1, rng=rng)):
        with pytest.raises(TypeError, match=r"rng is (int|numpy's Generator), expected nanograd_gpt's Generator or"):
            make()


@pytest.mark.parametrize(
    "value", [np.ones((3, 2)), [[1.0]], 0.5, Tensor([1.0]), GELU()], ids=lambda v: type(v).__name__
)
def test_only_a_parameter_or_none_takes_a_parameters_place(value: Any) -> None:
    layer = Linear(2, 3, rng=Generator(1))
    message = rf"^Linear\.weight is a Parameter and cannot become a {type(value).__name__}; write to weight\.data"
    with pytest.raises(TypeError, match=message):
        layer.weight = value
    layer.bias = None
    layer.weight = replaced = Parameter(np.ones((3, 2)))
    assert layer.parameters() == [replaced]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (([GELU(), GELU()],), r"layer 0 is a list, expected a Module; write Sequential\(\*layers\)"),
        ((GELU(), None), "layer 1 is a NoneType, expected a Module; give Modules"),
        ((GELU(), F.gelu), "layer 1 is a function, expected a Module; give Modules"),
    ],
)
def test_a_member_of_sequential_is_a_module(layers: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^Sequential: {message}"):
        Sequential(*layers)
