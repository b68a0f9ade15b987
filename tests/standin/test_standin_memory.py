"""Views, uninitialised memory, indexing and copies behave in the stand-in as they do in CuPy."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from standin.cupy_standin import installed
from standin.record import Record, deeds

# Memory.


def test_views_share_memory_and_know_the_array_that_owns_it(cp: ModuleType, x: Any) -> None:
    assert x.base is not None  # a reshaped arange
    y = cp.zeros((3, 4))
    views = [
        y[1:],
        y[1:][:, 1:],
        y.T,
        y.reshape(4, 3),
        y.ravel(),
        y[None],
        y.swapaxes(0, 1),
        cp.broadcast_to(y, (2, 3, 4)),
    ]
    assert [view.base is y for view in views] == [True] * len(views)
    assert y.base is None
    assert y[1:].data.ptr - y.data.ptr == y.strides[0]
    y.T[1, 2] += 5
    y[0][...] = cp.ones(4)
    y[2:] -= 1
    np.testing.assert_array_equal(y.get(), [[1] * 4, [0] * 4, [-1, 4, -1, -1]])
    assert y.copy().base is None
    assert (y + 1).base is None


def test_what_is_not_contiguous_is_sorted_in_a_copy_only(cp: ModuleType) -> None:
    y = cp.asarray(np.array([[3.0, 1.0], [2.0, 0.0]]))
    for sort in (lambda: y.T.sort(), lambda: y.T.partition(1)):
        with pytest.raises(NotImplementedError, match="Sorting non-contiguous array is not supported"):
            sort()
    np.testing.assert_array_equal(cp.sort(y.T, axis=0).get(), [[1, 0], [3, 2]])
    np.testing.assert_array_equal(cp.partition(y.T, 1).get(), [[2, 3], [0, 1]])


def test_results_written_in_place_are_the_same_array(cp: ModuleType, x: Any) -> None:
    y = cp.empty_like(x)
    assert cp.exp(x, out=y) is y
    assert cp.matmul(x, x.T, out=(z := cp.empty((3, 3), dtype=x.dtype))) is z
    assert x.sum(axis=1, out=y[:, 0]).base is not None
    before = y
    y += x
    y *= 2
    assert y is before
    assert cp.clip(x, 0, 1, out=y) is y
    assert cp.asarray(x) is x
    assert x.astype(cp.float32, copy=False) is x
    assert cp.ascontiguousarray(x) is x
    assert x.squeeze() is cp.squeeze(x) is x
    assert cp.squeeze(x[None]) is not x


def test_an_out_that_overlaps_an_input_is_filled_at_last_by_ufuncs_products_and_sums_that_accumulate(
    cp: ModuleType,
) -> None:
    """CuPy copies the input (_copy_in_args_if_needed) or the result (tensordot_core, matmul, scan_core)."""
    for write in (
        lambda xp, a: xp.matmul(a, a.copy(), out=a.T),
        lambda xp, a: xp.exp(a[:, 1:], out=a[:, :-1]),
        lambda xp, a: xp.cumsum(a[1:], axis=1, out=a[:-1]),
        lambda xp, a: xp.clip(a[:, 1:], 2, 5, out=a[:, :-1]),
        lambda xp, a: a.__setitem__((slice(None), slice(1, None)), a[:, :-1]),  # by a ufunc, not being contiguous
    ):
        host = np.arange(9.0).reshape(3, 3)
        there = cp.asarray(host)
        write(cp, there)
        write(np, host)
        np.testing.assert_array_equal(there.get(), host)


@pytest.mark.parametrize(
    "write",
    [
        lambda cp, a: a.sum(axis=0, out=a[0]),
        lambda cp, a: cp.max(a, axis=1, out=a[:, 0]),
        lambda cp, a: cp.take(a, cp.asarray([0, 1, 2]), out=a[1]),
        lambda cp, a: a.take([0, 1, 2], axis=1, out=a[:, ::-1]),
        lambda cp, a: a.__setitem__(slice(1, None), a[:-1]),  # cudaMemcpy
        lambda cp, a: a[0].__setitem__(slice(1, None), a[0, :-1]),
        lambda cp, a: a.__setitem__(cp.asarray([0, 1, 2]), a[::-1]),
        lambda cp, a: a.__setitem__(a > 3, a[0, 0]),
        lambda cp, a: cp.add.at(a, cp.asarray([0, 0]), a[1]),
    ],
)
def test_what_cupy_writes_while_it_reads_may_not_overlap(cp: ModuleType, write: Any) -> None:
    a = cp.arange(9.0).reshape(3, 3)
    with pytest.raises(RuntimeError, match="overlap"):
        write(cp, a)
    np.testing.assert_array_equal(a.get(), np.arange(9.0).reshape(3, 3))
    a[...] = a  # one place twice is nothing to do
    a.take([0, 1], axis=0, out=cp.empty((2, 3)))
    a[:, 1] = a[:, 0]


def test_a_ufuncs_result_is_in_c_order_whatever_the_order_of_its_inputs(cp: ModuleType, x: Any) -> None:
    assert np.add(x.get().T, 1).flags.f_contiguous  # NumPy keeps the inputs' order
    for result in (x.T + 1, cp.exp(x.T), cp.where(x.T > 1, x.T, 0), x.T * x.T):
        assert result.flags.c_contiguous


def test_flags_are_the_ones_that_cupy_has(x: Any) -> None:
    assert (x.flags.c_contiguous, x.flags["F_CONTIGUOUS"], x.T.flags.f_contiguous) == (True, False, True)
    assert (x.flags.owndata, x.copy().flags.owndata) == (False, True)
    with pytest.raises(AttributeError):
        _ = x.flags.writeable


@pytest.mark.parametrize("make", ["empty", "ndarray", "empty_like"])
def test_uninitialised_memory_shows_when_it_is_read(cp: ModuleType, make: str) -> None:
    for dtype in (np.float32, np.complex128):
        like = (3,) if make != "empty_like" else cp.zeros(3)
        assert np.isnan(getattr(cp, make)(like, dtype=dtype).get()).all()
    assert cp.empty(3, dtype=np.int64).get().min() > 2**60
    assert cp.empty(3, dtype=bool).get().all()


def test_the_memory_pool_counts_the_arrays_that_are_alive(cp: ModuleType) -> None:
    pool = cp.get_default_memory_pool()
    before = pool.used_bytes()
    big = cp.zeros((1000,), dtype=cp.float32)
    view = big[10:]
    assert pool.used_bytes() - before == 4096  # whole blocks of 512
    del big
    assert pool.used_bytes() - before == 4096
    del view
    assert pool.used_bytes() == before


def test_arrays_of_an_installation_before_take_no_memory_of_the_next() -> None:
    with installed():
        held = importlib.import_module("cupy").zeros(1 << 20)
    with installed():
        assert held.nbytes == 8 << 20
        assert importlib.import_module("cupy").get_default_memory_pool().used_bytes() == 0


# Indexing.


def test_array_indices_wrap_around_in_silence(cp: ModuleType, x: Any) -> None:
    host = x.get()
    np.testing.assert_array_equal(x[cp.asarray([0, 3, -1, -4])].get(), host[[0, 0, 2, 2]])
    np.testing.assert_array_equal(x[:, cp.asarray([4, 5])].get(), host[:, [0, 1]])
    np.testing.assert_array_equal(x[..., cp.asarray([4], dtype=np.uint8)].get(), host[:, [0]])
    np.testing.assert_array_equal(x[None, cp.asarray([3]), cp.asarray([-5])].get(), host[None, [0], [3]])
    np.testing.assert_array_equal(cp.take(x, cp.asarray([13])).get(), host.ravel()[[1]])
    np.testing.assert_array_equal(x.take(cp.asarray([5]), axis=1).get(), host[:, [1]])
    np.testing.assert_array_equal(cp.take_along_axis(x, cp.full((3, 1), 6), axis=1).get(), host[:, [2]])
    x[cp.asarray([5])] = 0
    assert x.get()[2].sum() == 0


def test_an_integer_out_of_range_is_an_index_error(x: Any) -> None:
    with pytest.raises(IndexError):
        x[3]
    with pytest.raises(IndexError, match="integer or boolean type"):
        x[x[0]]


def test_indexing_with_an_array_copies_also_with_a_0d_one(cp: ModuleType, x: Any, standin: Record) -> None:
    y = x[cp.asarray(1)]
    y += 100
    assert x.get().max() == 11
    assert deeds(standin.syncs) == ["get"]


def test_one_element_is_a_view_as_a_slice_is(cp: ModuleType) -> None:
    y = cp.zeros((3, 4))
    for view in (y[0, 1], y[0][1], y[np.int64(0), 1], y[..., 0, 1]):
        assert view.base is y
        view += 1
    assert y.get()[0, 1] == 4


def test_masks_make_the_host_wait(cp: ModuleType, x: Any, standin: Record) -> None:
    np.testing.assert_array_equal(x[x > 9].get(), [10, 11])
    x[x > 9] = 0
    x[:, x[0] > 2] = 0
    assert deeds(standin.syncs) == ["mask index", "get", "mask index", "mask index"]


def test_indices_from_the_host_are_uploaded(cp: ModuleType, x: Any, standin: Record) -> None:
    assert x[[0, 2]].shape == x[np.array([0, 2])].shape == x.take([0, 2], axis=0).shape == (2, 4)
    assert deeds(standin.uploads) == ["index int64[2]"] * 3
    assert standin.syncs == []


def test_repeated_indices_in_an_assignment_are_an_error_for_cupy_keeps_any_value(cp: ModuleType, x: Any) -> None:
    repeated = cp.asarray([1, 1, 4])
    x[repeated] = 0
    with pytest.raises(RuntimeError, match="repeated indices"):
        x[repeated] = cp.ones((3, 4))


def test_add_at_sums_repeated_indices_and_wraps(cp: ModuleType) -> None:
    y, indices = cp.zeros((3, 2), dtype=cp.float32), cp.asarray([0, 0, 5])
    cp.add.at(y, indices, cp.ones((3, 2)))  # the values are cast in silence
    importlib.import_module("cupyx").scatter_add(y, indices, 1)
    cp.add.at(y, (indices, 0), -1)
    np.testing.assert_array_equal(y.get(), [[2, 4], [0, 0], [1, 2]])
    cp.add.at(y, slice(1, 2), 3)
    cp.subtract.at(y, (y > 3), 4)
    np.testing.assert_array_equal(y.get(), [[2, 0], [3, 3], [1, 2]])
    cp.maximum.at(y, cp.asarray([1]), 9)
    assert y.get()[1].tolist() == [9, 9]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("add", np.complex64), ("add", np.bool_), ("add", np.int16), ("subtract", np.float32), ("maximum", np.float16)],
)
def test_at_takes_only_dtypes_that_have_an_atomic_operation(cp: ModuleType, name: str, dtype: Any) -> None:
    with pytest.raises(TypeError, match="only supports int32"):
        getattr(cp, name).at(cp.zeros(3, dtype=dtype), cp.asarray([0]), 1)


# Between host and device.


def test_what_goes_up_comes_back(cp: ModuleType) -> None:
    host = np.arange(6.0).reshape(2, 3).T
    for there in (cp.asarray(host), cp.array(host), cp.asarray(host.tolist())):
        np.testing.assert_array_equal(there.get(), host)
        np.testing.assert_array_equal(cp.asnumpy(there), host)
    out = np.empty((3, 2))
    assert cp.asarray(host).get(out=out) is out
    np.testing.assert_array_equal(out, host)
    there = cp.asarray(host)
    host[0, 0] = 99
    assert there.get()[0, 0] == 0
    assert cp.asnumpy(host) is host


def test_arrays_in_a_list_are_stacked_on_the_device(cp: ModuleType, x: Any, standin: Record) -> None:
    assert cp.asarray([x, x]).shape == (2, 3, 4)
    assert standin.uploads == standin.syncs == []
    with pytest.raises(TypeError, match="Implicit conversion"):
        cp.asarray([x[0, 0], 1.0])


def test_a_transfer_between_unlike_arrays_is_an_error(cp: ModuleType, x: Any) -> None:
    with pytest.raises(TypeError, match="float64 array cannot be set to float32 array"):
        x.set(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="Shape mismatch"):
        x.set(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="Shape mismatch"):
        x.get(out=np.zeros(4, np.float32))
    with pytest.raises(TypeError, match=r"Only numpy.ndarray can be set"):
        x.set(x)
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cp.asarray(np.array(["text"]))


def test_get_array_module_tells_whose_an_array_is(cp: ModuleType, x: Any) -> None:
    assert cp.get_array_module(x) is cp.get_array_module(np.ones(2), x) is cp
    assert cp.get_array_module(np.ones(2)) is np
