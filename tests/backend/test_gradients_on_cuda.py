"""Every operation on CuPy's arrays computes what it computes on NumPy's, forward and backward, and never waits.

NumPy's gradients are proven by differences of values (tests/gradcheck); no GPU is needed to compare with them: where
there is none, the stand-in for CuPy runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from standin.both import run_on_both
from standin.record import Record, deeds

from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.select import to_device, to_host
from nanograd_gpt.gradcheck.cases import Case, cases
from nanograd_gpt.gradcheck.check import check_gradients
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor, apply

CASES = list(cases())
WAITS = {"GetItem, a mask": ["mask index"] * 2}  # the host has to know how many elements a mask takes


def undefined(name: str, n: Any) -> bool:
    return (name == "x / n" and n == 0) or (name == "n ** x" and n < 0)


X = np.array([[0.6, 2.3, 3.4], [1.2, 0.7, 2.9]])  # beside all of these numbers, where maximum has a kink
MASK = np.array([[True, False, False], [False, True, False]])
NUMBERS = [2, 0, -1, 3.0, 0.5, 0.0, True, np.float64(1.5), np.float32(2), np.int64(3)]
WITH_A_NUMBER: dict[str, Callable[[Tensor, Any, Any], Tensor]] = {
    "x + n": lambda x, mask, n: x + n,
    "n + x": lambda x, mask, n: n + x,
    "x - n": lambda x, mask, n: x - n,
    "n - x": lambda x, mask, n: n - x,
    "x * n": lambda x, mask, n: x * n,
    "n * x": lambda x, mask, n: n * x,
    "x / n": lambda x, mask, n: x / n,
    "n / x": lambda x, mask, n: n / x,
    "x ** n": lambda x, mask, n: x**n,
    "n ** x": lambda x, mask, n: n**x,
    "where(mask, x, n)": lambda x, mask, n: F.where(mask, x, n),
    "where(mask, n, x)": lambda x, mask, n: F.where(mask, n, x),
    "where(n, x, -x)": lambda x, mask, n: F.where(n, x, -x),
    "where(n > 0, x, n)": lambda x, mask, n: F.where(n > 0, x, n),
    "maximum(x, n)": lambda x, mask, n: F.maximum(x, n),
    "maximum(n, x)": lambda x, mask, n: F.maximum(n, x),
    "minimum(x, n)": lambda x, mask, n: F.minimum(x, n),
    "minimum(n, x)": lambda x, mask, n: F.minimum(n, x),
}
COMPARISONS: dict[str, Callable[[Tensor, Any], Any]] = {
    "x < n": lambda x, n: x < n,
    "x <= n": lambda x, n: x <= n,
    "x > n": lambda x, n: x > n,
    "n >= x": lambda x, n: n >= x,
}
PAIRS = [(name, n) for name in WITH_A_NUMBER for n in NUMBERS if not undefined(name, n)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_of_the_gradient_check_is_the_same_on_the_device(standin: Record | None, case: Case) -> None:
    waits = run_on_both(partial(apply, case.op), case.inputs, case.params)
    assert deeds(waits) == (WAITS.get(str(case), []) if standin else [])


def test_every_operation_is_among_the_cases() -> None:
    found = {op for op in every(Function) if op.__module__.startswith("nanograd_gpt.ops")}
    assert {case.op for case in CASES} == found, "add cases in nanograd_gpt/gradcheck/cases.py"
    assert len(CASES) >= 347
    assert WAITS.keys() <= {str(case) for case in CASES}


def every(cls: type[Function]) -> Iterator[type[Function]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from every(sub)


@pytest.mark.parametrize("softmax", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_softmax_of_no_axes_is_the_same(standin: Record | None, softmax: Any, axis: int) -> None:
    assert run_on_both(softmax, (np.array(2.5),), {"axis": axis}) == []


@pytest.mark.parametrize(
    "composed",
    [
        F.relu,
        lambda x: F.topk(x, 2),
        lambda x: F.topk(x, 1, dim=0),
        lambda x: x.argmax(),
        lambda x: x.argmax(dim=-1, keepdim=True),
        lambda x: x.var(dim=-1, keepdim=True, unbiased=False),
        lambda x: x.masked_fill(x < 1, 0.5),
        lambda x: x.unsqueeze(0).squeeze(0).view(-1),
    ],
    ids=["relu", "topk", "topk, dim", "argmax", "argmax, dim", "var", "masked_fill", "shape"],
)
def test_a_composition_is_the_same(standin: Record | None, composed: Any) -> None:
    assert run_on_both(composed, (X,)) == []


# Plain numbers as operands


@pytest.mark.parametrize(("name", "n"), PAIRS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_number_is_an_operand_on_either_side(standin: Record | None, name: str, n: Any, dtype: Any) -> None:
    tolerance = 1e-13 if dtype is np.float64 else 1e-6
    assert run_on_both(WITH_A_NUMBER[name], (X.astype(dtype), MASK, n), tolerance=tolerance) == []


@pytest.mark.parametrize(("name", "n"), PAIRS, ids=repr)
def test_its_gradient_on_the_cpu_is_proven(name: str, n: Any) -> None:
    check_gradients(lambda x: WITH_A_NUMBER[name](x, MASK, n), [X])


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("n", NUMBERS, ids=repr)
def test_a_number_compares_on_either_side(standin: Record | None, name: str, n: Any) -> None:
    assert run_on_both(COMPARISONS[name], (X, n)) == []


@pytest.mark.parametrize("n", [0, 2, 2.0, -1.0, 0.5, np.float64(2), np.int64(0)], ids=repr)
def test_a_power_with_0_among_its_bases_is_the_same(standin: Record | None, n: Any) -> None:
    with np.errstate(all="ignore"):
        run_on_both(lambda x: x**n, (np.array([0.0, 1.0, 4.0]),))
        run_on_both(lambda x: 0**x, (np.array([0.0, 1.0, 4.0]),))
        run_on_both(lambda x: 0.0**x, (np.array([0.0, 1.0, 4.0]),))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 2.0, True])
def test_a_powers_gradient_has_its_dtype_whatever_the_number(dtype: Any, n: Any) -> None:
    seen = []

    class Watch(Function):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, dy: Any) -> Any:
            seen.append(dy.dtype)
            return (dy,)

    x = Tensor(X.astype(dtype), requires_grad=True)
    (n ** apply(Watch, x)).sum().backward()
    (apply(Watch, x) ** n).sum().backward()
    assert seen == [dtype, dtype]


# where


@pytest.mark.parametrize("condition", [True, False, 1, 0.0, np.bool_(True), np.float32(0)], ids=repr)
def test_a_condition_may_be_one_bool_or_number(standin: Record | None, condition: Any) -> None:
    y = np.array([5.0, 6.0, 7.0])
    assert run_on_both(lambda x, y: F.where(condition, x, y), (X, y)) == []
    x = Tensor(X, requires_grad=True)
    z = F.where(condition, x, y)
    np.testing.assert_array_equal(z.data, np.where(condition, X, y))
    z.sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(X.shape, float(bool(condition))))


def test_of_two_numbers_the_condition_says_where(standin: Record | None) -> None:
    for x, y in ((1.0, 0.0), (1, 2.5), (True, 2), (np.float32(1), 0)):
        run_on_both(lambda mask, x=x, y=y: F.where(mask, x, y), (MASK,))
        result = F.where(MASK, x, y)
        np.testing.assert_array_equal(result.data, np.where(MASK, x, y))
        assert result.dtype == np.where(MASK, x, y).dtype
        assert not result.requires_grad
    assert F.where(True, 1.0, 2.0).item() == 1.0


def test_a_condition_may_be_a_tensor_of_bools(standin: Record | None) -> None:
    run_on_both(lambda x, mask: F.where(Tensor(mask), x, 0.0), (X, MASK))


@pytest.mark.parametrize("condition", [MASK, [True, False, True], Tensor(MASK)], ids=["array", "list", "Tensor"])
def test_a_condition_on_the_host_beside_device_arrays_says_so(standin: Record | None, condition: Any) -> None:
    x = Tensor(to_device(X, "cuda"), requires_grad=True)
    with pytest.raises(
        TypeError, match=r"condition is a (numpy.ndarray|builtins.list), the arrays beside it are on the GPU"
    ):
        F.where(condition, x, 0.0)


def test_every_operand_on_another_device_is_named(standin: Record | None) -> None:
    x, mask = Tensor(to_device(X, "cuda")), to_device(MASK, "cuda")
    with pytest.raises(TypeError, match=r"where: y is a numpy.ndarray, the arrays beside it are on the GPU"):
        F.where(mask, x, X)
    with pytest.raises(TypeError, match=r"where: condition is a cupy.ndarray, the arrays beside it are on the CPU"):
        F.where(mask, X, 0.0)


# A gradient handed to backward()


@pytest.mark.parametrize("gradient", [2.0, 3, [[1.0, 2.0, 3.0]] * 2, np.float64(2)], ids=repr)
def test_backward_takes_numbers_and_lists_to_the_device(standin: Record | None, gradient: Any) -> None:
    x = Tensor(to_device(X, "cuda"), requires_grad=True)
    y = x * 2
    (y if isinstance(gradient, list) else y.sum()).backward(gradient)
    np.testing.assert_array_equal(to_host(x.grad), 2 * np.broadcast_to(gradient, X.shape))


def test_backward_refuses_a_gradient_on_another_device(standin: Record | None) -> None:
    x = Tensor(to_device(X, "cuda"), requires_grad=True)
    with pytest.raises(TypeError, match=r"backward\(\) on cuda got a gradient on cpu; move it with to_device"):
        (x * 2).backward(np.ones(X.shape))
    on_cpu = Tensor(X, requires_grad=True)
    with pytest.raises(TypeError, match=r"on cpu got a gradient on cuda"):
        (on_cpu * 2).backward(to_device(X, "cuda"))
