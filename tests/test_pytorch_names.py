"""PyTorch's names on Tensors: dim= and keepdim= beside axis= and keepdims=, and what chapters 4 and 5 call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensor_leaves import leaf

import nanograd_gpt as ng
from nanograd_gpt import functional as F
from nanograd_gpt.gradcheck import check_gradients
from nanograd_gpt.tensor import Tensor

X = np.random.default_rng(3).standard_normal((2, 3, 4))

REDUCTIONS = ["sum", "mean", "max", "logsumexp", "var", "argmax"]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(Tensor, name) for name in REDUCTIONS},
    "F.logsumexp": F.logsumexp,
    "F.softmax": F.softmax,
    "F.log_softmax": F.log_softmax,
    "F.concatenate": lambda x, *args, **kwargs: F.concatenate([x, x], *args, **kwargs),
    "F.cat": lambda x, *args, **kwargs: F.cat([x, x], *args, **kwargs),
    "F.stack": lambda x, *args, **kwargs: F.stack([x, x], *args, **kwargs),
    "F.split": lambda x, *args, **kwargs: F.split(x, 1, *args, **kwargs)[0],
    "F.topk": lambda x, *args, **kwargs: F.topk(x, 2, *args, **kwargs)[0],
}
OF_KEEPDIM = [*REDUCTIONS, "F.logsumexp"]


def array_of(result: Any) -> Any:
    return result.data if isinstance(result, Tensor) else result


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_dim_is_axis(name: str, axis: int) -> None:
    function = FUNCTIONS[name]
    expected = array_of(function(Tensor(X), axis=axis))
    np.testing.assert_array_equal(array_of(function(Tensor(X), dim=axis)), expected)
    np.testing.assert_array_equal(array_of(function(Tensor(X), axis)), expected)


@pytest.mark.parametrize("name", OF_KEEPDIM)
def test_keepdim_is_keepdims(name: str) -> None:
    function = FUNCTIONS[name]
    expected = array_of(function(Tensor(X), axis=1, keepdims=True))
    assert expected.shape == (2, 1, 4)
    for result in (
        function(Tensor(X), dim=1, keepdim=True),
        function(Tensor(X), 1, keepdim=True),
        function(Tensor(X), axis=1, keepdim=True),
        function(Tensor(X), dim=1, keepdims=True),
    ):
        np.testing.assert_array_equal(array_of(result), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_names_are_a_type_error_even_where_they_agree(name: str) -> None:
    for args, kwargs in (((), {"axis": 1, "dim": 1}), ((1,), {"dim": 1})):
        with pytest.raises(TypeError, match="axis and dim are one argument; give one of them"):
            FUNCTIONS[name](Tensor(X), *args, **kwargs)


@pytest.mark.parametrize("name", OF_KEEPDIM)
def test_both_names_of_keepdims_are_a_type_error(name: str) -> None:
    for args, kwargs in (((1,), {"keepdims": False, "keepdim": True}), ((1, False), {"keepdim": True})):
        with pytest.raises(TypeError, match="keepdims and keepdim are one argument; give one of them"):
            FUNCTIONS[name](Tensor(X), *args, **kwargs)


@pytest.mark.parametrize("name", ["F.softmax", "F.cat"])
def test_a_name_that_a_function_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'keepdim'"):
        FUNCTIONS[name](Tensor(X), keepdim=True)


# argmax


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_argmax_is_numpys_as_an_array(axis: int | None, keepdims: bool) -> None:
    result = leaf(X).argmax(axis, keepdims)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, X.argmax(axis=axis, keepdims=keepdims))


def test_argmax_of_equal_elements_is_the_first() -> None:
    assert Tensor([1.0, 3.0, 3.0]).argmax().item() == 1


# Facts


def test_numel_and_tolist() -> None:
    assert (Tensor(X).numel(), Tensor(1.0).numel(), Tensor(np.empty((0, 3))).numel()) == (24, 1, 0)
    assert leaf([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]
    assert Tensor(2.5).tolist() == 2.5


# Shape


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda x: x.view(4, 6), (4, 6)),
        (lambda x: x.view(2, -1), (2, 12)),
        (lambda x: x.unsqueeze(0), (1, 2, 3, 4)),
        (lambda x: x.unsqueeze(2), (2, 3, 1, 4)),
        (lambda x: x.unsqueeze(-1), (2, 3, 4, 1)),
        (lambda x: x.unsqueeze(1).squeeze(1), (2, 3, 4)),
        (lambda x: x.unsqueeze(1).squeeze(-3), (2, 3, 4)),
        (lambda x: x.squeeze(1), (2, 3, 4)),
        (lambda x: x.unsqueeze(0).unsqueeze(-1).squeeze(), (2, 3, 4)),
    ],
)
def test_a_change_of_shape_keeps_the_elements_and_passes_their_gradients(
    change: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    x = leaf(X)
    y = change(x)
    assert y.shape == shape
    np.testing.assert_array_equal(y.data.ravel(), X.ravel())
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * X, rtol=1e-15)  # type: ignore[arg-type]  # None would fail


def test_one_element_squeezes_to_no_axes() -> None:
    assert Tensor([[2.0]]).squeeze().shape == ()


@pytest.mark.parametrize("axis", [4, -5])
def test_an_axis_that_cannot_be_inserted_is_an_error(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis {axis} is out of bounds"):
        Tensor(X).unsqueeze(axis)


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_is_not_there_cannot_be_removed(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis {axis} is out of bounds"):
        Tensor(X).squeeze(axis)


# Compositions: values, and gradients by the complex step


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize("unbiased", [False, True])
def test_var_is_numpys_and_its_gradient_agrees(axis: Any, unbiased: bool) -> None:
    for keepdims in (False, True):
        y = Tensor(X).var(axis, keepdims=keepdims, unbiased=unbiased)
        np.testing.assert_allclose(y.data, X.var(axis=axis, keepdims=keepdims, ddof=int(unbiased)), rtol=1e-13)
    assert check_gradients(lambda x: x.var(axis, unbiased=unbiased), [X]) < 1e-12


def test_var_of_float32_is_float32() -> None:
    assert Tensor(X.astype(np.float32)).var(dim=-1, keepdim=True, unbiased=False).dtype == np.float32


@pytest.mark.parametrize("mask", [X > 0, X[0] > 0, True, Tensor(X > 0)], ids=["array", "broadcast", "bool", "Tensor"])
def test_masked_fill_replaces_where_the_mask_is_true(mask: Any) -> None:
    y = Tensor(X.astype(np.float32)).masked_fill(mask, -np.inf)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.data, np.where(array_of(mask), -np.inf, X).astype(np.float32))
    assert check_gradients(lambda x: x.masked_fill(mask, 2.0), [X]) < 1e-12


def test_relu_is_0_below_0_and_has_no_gradient_there_nor_at_0() -> None:
    x = leaf([-2.0, 0.0, 3.0, np.nan])
    y = F.relu(x)
    np.testing.assert_array_equal(y.data, [0.0, 0.0, 3.0, np.nan])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [0.0, 0.0, 1.0, 1.0])  # type: ignore[arg-type]  # None would fail
    np.testing.assert_array_equal(ng.nn.ReLU()(Tensor(X)).data, np.maximum(X, 0))
    assert check_gradients(F.relu, [X]) < 1e-12


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_topk_is_the_start_of_the_falling_order(axis: int) -> None:
    for k in range(X.shape[axis] + 1):
        values, indices = F.topk(Tensor(X), k, axis)
        expected = np.flip(np.sort(X, axis=axis), axis).take(range(k), axis=axis)
        np.testing.assert_array_equal(values.data, expected)
        np.testing.assert_array_equal(np.take_along_axis(X, indices, axis), expected)
    assert check_gradients(lambda x: F.topk(x, 2, dim=axis)[0], [X]) < 1e-12


def test_of_equal_elements_topk_takes_the_first() -> None:
    assert F.topk(Tensor([1.0, 3.0, 2.0, 3.0, 3.0]), 4)[1].tolist() == [1, 3, 4, 2]


@pytest.mark.parametrize("k", [-1, 5])
def test_topk_refuses_more_elements_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match=f"topk: k = {k} is not allowed; choose 0 .. 4, the length of axis 2"):
        F.topk(Tensor(X), k)


# Slips of PyTorch users


def test_var_takes_keepdims_by_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Tensor(X).var(0, False)  # type: ignore[misc]  # refused: in PyTorch it is unbiased


@pytest.mark.parametrize("name", ["sum", "mean", "max", "logsumexp", "argmax", "F.logsumexp"])
def test_a_second_axis_is_not_keepdims(name: str) -> None:
    message = r"keepdims: 2 is not a bool; several axes are a tuple, \(1, 2\)"
    for args, kwargs in (((1, 2), {}), ((1,), {"keepdims": 2}), ((), {"dim": 1, "keepdim": 2})):
        with pytest.raises(TypeError, match=message):
            FUNCTIONS[name](Tensor(X), *args, **kwargs)


def test_transpose_of_two_axes_points_to_swapaxes() -> None:
    with pytest.raises(ValueError, match=r"transpose takes all axes in their new order, swapaxes\(a, b\) swaps two"):
        Tensor(np.ones((1, 2, 3, 4))).transpose(1, 2)


@pytest.mark.parametrize("axes", [(0, 1), (-2, -1), (0, -1), (-2, 1)])
def test_a_matrix_is_not_silently_left_untransposed(axes: tuple[int, int]) -> None:
    """In PyTorch transpose(0, 1) swaps the axes; in NumPy it is the identity, which nobody writes for a matrix."""
    x = Tensor(np.arange(6.0).reshape(2, 3))
    with pytest.raises(TypeError, match=r"transpose\(.* of a matrix: .* write x\.T or x\.swapaxes\(0, 1\)"):
        x.transpose(*axes)
    assert x.transpose(axes).shape == (2, 3)  # NumPy's, for code that computes a permutation
    assert x.transpose(1, 0).shape == x.swapaxes(*axes).shape == (3, 2)  # NumPy's and PyTorch's alike
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        x.transpose(2, 3)


@pytest.mark.parametrize("sections", [[2, 4], 2.0, None])
def test_split_takes_a_number_of_sections_alone(sections: Any) -> None:
    with pytest.raises(TypeError, match="expected the number of equal sections"):
        F.split(np.arange(6.0), sections)


def test_grad_is_set_to_none_as_in_pytorch_and_to_nothing_else() -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    with pytest.raises(TypeError, match="grad can be set to None alone"):
        x.grad = np.zeros(2)  # type: ignore[assignment]  # refused
    x.grad = None
    assert x.grad is None


def test_requires_grad_cannot_be_changed_and_says_what_to_do() -> None:
    for x, other in ((leaf([1.0]), False), (Tensor([1.0]), True)):
        x.requires_grad = not other
        with pytest.raises(TypeError, match="cannot be changed; give AdamW only the parameters to train"):
            x.requires_grad = other


def test_no_grad_decorates_with_and_without_brackets() -> None:
    x = leaf([1.0])

    @ng.no_grad
    def bare(y: Tensor) -> Tensor:
        return y * 2

    @ng.no_grad()
    def called(y: Tensor) -> Tensor:
        return y * 2

    for function in (bare, called):
        for _ in range(2):
            assert not function(x).requires_grad
    assert (x * 2).requires_grad
    assert bare.__name__ == "bare"


@pytest.mark.parametrize("value", [2.5678, np.float32(2.5), [[2.5678]]])
def test_one_element_is_formatted_rounded_and_truncated_as_its_number(value: Any) -> None:
    x = Tensor(value)
    assert f"{x:.3f}" == f"{x.item():.3f}"
    assert (int(x), round(x), round(x, 2)) == (2, round(x.item()), round(x.item(), 2))
    assert f"{x}" == repr(x)


def test_several_elements_are_neither_formatted_nor_rounded() -> None:
    for use in (int, round, "{:.3f}".format):
        with pytest.raises(ValueError, match=r"item\(\) needs a Tensor of one element; this one has shape \(2, 3, 4\)"):
            use(Tensor(X))
