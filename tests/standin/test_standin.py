"""The stand-in for CuPy has CuPy's names and arguments, refuses what CuPy refuses, and otherwise computes as NumPy."""

from __future__ import annotations

import inspect
import operator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from standin import device, functions, raw_module
from standin.api import api
from standin.device_array import DeviceArray
from standin.record import Record, deeds

UNSUPPORTED = "Unsupported type <class 'numpy.ndarray'>"


# Names and keywords are CuPy's.


@pytest.mark.parametrize("name", ["errstate", "vecdot", "longdouble", "block", "nditer", "no_such_name"])
def test_a_name_that_cupy_lacks_is_an_attribute_error(cp: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'cupy' has no attribute '{name}'"):
        getattr(cp, name)


@pytest.mark.parametrize("name", ["RawKernel", "fuse", "r_", "fft", "flatiter", "random.normal", "cuda.ExternalStream"])
def test_a_name_that_cupy_has_and_the_standin_has_not_says_so(cp: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError, match="the stand-in does not emulate"):
        operator.attrgetter(name)(cp)


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x: cp.sum(x, where=x > 0),
        lambda cp, x: cp.sum(x, initial=0),
        lambda cp, x: cp.exp(x, where=x > 0),
        lambda cp, x: cp.mean(x, where=x > 0),
        lambda cp, x: cp.take(x, cp.arange(2), mode="clip"),
        lambda cp, x: cp.einsum("ij->i", x, out=x[:, 0]),
        lambda cp, x: cp.clip(x, min=0),
        lambda cp, x: cp.take_along_axis(x, cp.zeros((3, 1), int)),
        lambda cp, x: cp.var(x, mean=x),
        lambda cp, x: cp.broadcast_to(x, (2, 3, 4), subok=True),
        lambda cp, x: cp.empty((2,), device="cpu"),
        lambda cp, x: x.sum(where=x > 0),
        lambda cp, x: x.max(initial=0),
        lambda cp, x: x.item(0),
        lambda cp, x: np.sum(x, initial=0),
        lambda cp, x: np.exp(x, where=np.bool_(True)),
    ],
)
def test_a_keyword_or_argument_that_cupy_lacks_is_a_type_error(cp: ModuleType, x: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"argument|positional"):
        call(cp, x)


@pytest.mark.parametrize("name", ["resize", "ctypes", "setflags", "to_device", "__index__", "__array_interface__"])
def test_an_attribute_that_cupys_array_lacks_is_an_attribute_error(x: Any, name: str) -> None:
    with pytest.raises(AttributeError, match=f"'ndarray' object has no attribute '{name}'"):
        getattr(x, name)


def test_attributes_cannot_be_added_to_an_array(x: Any) -> None:
    with pytest.raises(AttributeError):
        x.note = "mine"


@pytest.mark.parametrize("method", ["maximum.reduce", "exp.at", "multiply.at", "add.reduce.at"])
def test_ufunc_methods_that_cupy_has_not_written_raise(cp: ModuleType, x: Any, method: str) -> None:
    with pytest.raises((NotImplementedError, AttributeError)):
        operator.attrgetter(method)(cp)(x, 0)


def test_ufuncs_take_only_the_dtypes_that_cupys_take(cp: ModuleType, x: Any) -> None:
    with pytest.raises(TypeError, match="logical_and does not take complex64"):
        cp.logical_and(x.astype(cp.complex64), True)
    with pytest.raises(TypeError, match="bitwise_and does not take float32"):
        cp.bitwise_and(x, 1)


def test_the_arrays_special_methods_are_all_ones_that_cupys_has() -> None:
    ours = {name for name in vars(DeviceArray) if name.startswith("__")}
    pythons = {"__annotations__", "__firstlineno__", "__getattr__", "__static_attributes__", "__weakref__"}
    assert ours - pythons <= api().names["cupy.ndarray"].keys()
    assert not {"__index__", "__imatmul__", "__contains__"} & ours


@pytest.mark.parametrize("cls", [device.Device, device.Event, device.MemoryPool, device.Stream])
def test_the_devices_classes_have_only_cupys_names(cls: type) -> None:
    public = {name for name in vars(cls) if not name.startswith("_")} - {"ptr"}  # an instance attribute in CuPy
    assert public <= api().names[f"cupy.cuda.{cls.__name__}"].keys()


@pytest.mark.parametrize("cls", [raw_module.RawKernel, raw_module.RawModule])
def test_the_classes_of_kernels_have_only_cupys_names(cls: type) -> None:
    public = {name for name in vars(cls) if not name.startswith("_")}
    assert public <= api().names[f"cupy.{cls.__name__}"].keys()


@pytest.mark.parametrize("name", sorted(functions.OWN))
def test_functions_written_out_here_take_cupys_arguments(name: str) -> None:
    entry = api().names["cupy"][name]
    assert entry.signature is not None
    ours, theirs = inspect.signature(functions.OWN[name]).parameters, entry.signature.parameters
    assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]


# Host and device do not mix.


@pytest.mark.parametrize(
    "call",
    [
        lambda cp, x, host: x + host,
        lambda cp, x, host: host + x,
        lambda cp, x, host: x.__iadd__(host),
        lambda cp, x, host: host.__iadd__(x),
        lambda cp, x, host: x < host,
        lambda cp, x, host: host == x,
        lambda cp, x, host: np.add(x, host),
        lambda cp, x, host: np.exp(x, out=host),
        lambda cp, x, host: np.exp(host, out=x),
        lambda cp, x, host: cp.add(x, host),
        lambda cp, x, host: cp.exp(host),
        lambda cp, x, host: cp.add(x, x, out=host),
        lambda cp, x, host: cp.sum(host),
        lambda cp, x, host: cp.where(x > 0, x, host),
        lambda cp, x, host: cp.concatenate([x, host]),
        lambda cp, x, host: x.sum(axis=0, out=host[0]),
        lambda cp, x, host: x + np.array(2.0),
    ],
)
def test_numpys_arrays_are_refused_in_arithmetic(cp: ModuleType, x: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=UNSUPPORTED):
        call(cp, x, np.ones((3, 4), np.float32))


@pytest.mark.parametrize("call", [lambda x, host: x @ host, lambda x, host: host @ x, lambda x, host: x.dot(host)])
def test_numpys_arrays_are_refused_in_products(x: Any, call: Any) -> None:
    with pytest.raises(TypeError, match="type"):
        call(x, np.ones((4, 3), np.float32))


@pytest.mark.parametrize("convert", [np.asarray, np.array, lambda x: np.array([x]), np.float32, np.ma.asarray])
def test_an_array_never_becomes_numpys_by_itself(x: Any, convert: Any) -> None:
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        convert(x)


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float32(2), np.int64(2)])
def test_scalars_of_python_and_numpy_mix_with_arrays(cp: ModuleType, x: Any, scalar: Any) -> None:
    for result in (x * scalar, scalar * x, np.multiply(scalar, x), cp.multiply(x, scalar)):
        assert type(result) is cp.ndarray
        np.testing.assert_array_equal(result.get(), x.get() * scalar)
    assert (x * 2.0).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64


@pytest.mark.parametrize("value", [[1, 2, 3, 4], None, "a", object()])
def test_lists_and_objects_are_refused_in_arithmetic(cp: ModuleType, x: Any, value: Any) -> None:
    for a, b in ((x, value), (value, x)):
        with pytest.raises(TypeError):
            a + b
        with pytest.raises(TypeError):
            cp.add(a, b)


def test_lists_and_numbers_are_no_arrays_to_a_reduction(cp: ModuleType) -> None:
    for value in ([1.0, 2.0], 3.0):
        with pytest.raises(AttributeError, match="has not the attributes of"):
            cp.sum(value)


def test_numpys_arrays_are_not_assigned_to_a_slice_and_are_uploaded_to_an_index(standin: Record, x: Any) -> None:
    for key in (0, slice(None), Ellipsis):
        with pytest.raises(ValueError, match="cannot be used for fill"):
            x[key] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="cannot be used for fill"):
        x.fill(np.zeros(1))
    x[0, 0] = np.array(7.0)
    assert standin.uploads == []
    x[[0, 1]] = np.zeros((2, 4))
    assert deeds(standin.uploads) == ["assigned values", "index int64[2]"]


def test_comparing_with_none_compares_no_element(cp: ModuleType, x: Any) -> None:
    assert not (x == None).any()  # noqa: E711  # the comparison is what is tested
    assert (x != None).all()  # noqa: E711  # the comparison is what is tested


class Reflecting:
    """An operand with answers of its own, as our Tensor is."""

    def __radd__(self, other: Any) -> str:
        return "reflected"


def test_the_other_operand_answers_if_it_wants_no_ufuncs_or_has_a_priority_above_100(x: Any) -> None:
    """CuPy's _should_use_rop(): `__array_ufunc__` decides where there is one, and the priority where there is none."""
    assert x + type("NoUfuncs", (Reflecting,), {"__array_ufunc__": None})() == "reflected"
    assert x + type("Deferred", (Reflecting,), {"__array_priority__": 101})() == "reflected"
    has_both = {"__array_priority__": 101, "__array_ufunc__": lambda *args, **kwargs: "its ufunc"}
    assert x + type("HasBoth", (Reflecting,), has_both)() == "its ufunc"
    for attributes in ({}, {"__array_priority__": 100}):
        with pytest.raises(TypeError):
            x + type("Undecided", (Reflecting,), attributes)()


# Results stay on the device.


def test_reductions_give_0d_arrays_on_the_device(cp: ModuleType, x: Any, standin: Record) -> None:
    results = [x.sum(), cp.mean(x), x.max(), cp.argmax(x), x[0, 0], cp.exp(1.0), cp.linalg.norm(x), x.dot(x.T).trace()]
    results += [cp.array_equal(x, x), cp.allclose(x, x), cp.count_nonzero(x), np.sum(x), np.add.reduce(x[0])]
    for result in results:
        assert type(result) is cp.ndarray
        assert result.shape == ()
    assert standin.syncs == []


def test_shapes_and_dtypes_are_plain_python(cp: ModuleType, x: Any) -> None:
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x)) == ((3, 4), 2, 12, 48, 3)
    assert (cp.shape(x), cp.ndim(x)) == ((3, 4), 2)
    assert (cp.result_type(x.dtype, np.float64), cp.result_type(x, 1.0)) == (np.float64, np.float32)
    assert cp.float32 is np.float32
    assert cp.dtype is np.dtype
    assert cp.newaxis is None
    assert not cp.iscomplexobj(x)


def test_results_are_numpys(cp: ModuleType, x: Any) -> None:
    host = x.get()
    np.testing.assert_array_equal((x @ x.T).get(), host @ host.T)
    np.testing.assert_array_equal(cp.einsum("ij,kj->ik", x, x).get(), host @ host.T)
    np.testing.assert_array_equal(cp.concatenate([x, x], axis=1).get(), np.concatenate([host, host], axis=1))
    np.testing.assert_array_equal(cp.where(x > 3, x, -cp.inf).get(), np.where(host > 3, host, -np.inf))
    np.testing.assert_array_equal(cp.tril(x).get(), np.tril(host))
    np.testing.assert_array_equal((x**2 - x // 3 + -x % 5).get(), host**2 - host // 3 + -host % 5)
    np.testing.assert_array_equal(np.mean(x, axis=0).get(), host.mean(axis=0))
    quotient, rest = divmod(x, 5)
    np.testing.assert_array_equal((quotient * 5 + rest).get(), host)


def test_a_gpu_warns_of_nothing(cp: ModuleType, x: Any) -> None:
    assert cp.isinf(1 / x)[0, 0].get()
    assert cp.isnan(cp.log(-x - 1)).all().get()
    assert x.sum() / 0 == np.inf
