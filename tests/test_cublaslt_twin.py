"""The twin refuses what cuBLASLt refuses: a test that passes on it shows that the library was asked correctly."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from cublaslt_twin import EXECUTION_FAILED, INVALID_VALUE, NOT_SUPPORTED, Twin
from standin.cupy_standin import installed

from nanograd_gpt.errors import RunError

M, N, K = 4, 8, 16


@pytest.fixture(autouse=True)
def twin():
    with installed() as record:
        yield record.cublaslt


@pytest.fixture
def gemm():
    return importlib.import_module("nanograd_gpt.backend.cuda.gemm")


def multiply(gemm: Any, **changes: Any) -> None:
    cp = importlib.import_module("cupy")
    arrays = {"a": cp.ones((M, K), dtype="f4"), "b": cp.ones((K, N), dtype="f4"), "out": cp.empty((M, N), dtype="f4")}
    gemm.gemm(**{**arrays, **changes})


def refused(twin: Twin, gemm: Any, status: int, why: str, **changes: Any) -> None:
    """A product that the library must not compute, and the reason."""
    with pytest.raises(RunError, match=rf"\(status {status}\)"):
        multiply(gemm, **changes)
    assert why in twin.refusals[-1]
    assert twin.products == []


def test_it_computes_what_is_right(twin, gemm):
    multiply(gemm)
    assert (len(twin.products), twin.refusals) == (1, [])


@pytest.mark.parametrize(
    ("of", "wrong", "status", "why"),
    [
        ((K, N), lambda rows, columns, leading: (rows, columns, rows - 1), INVALID_VALUE, "layout of A"),
        ((K, M), lambda rows, columns, leading: (rows, 0, leading), INVALID_VALUE, "layout of B"),
        ((M, N), lambda rows, columns, leading: (columns, rows, rows), INVALID_VALUE, "sizes"),
        ((K, N), lambda rows, columns, leading: (columns, rows, columns), INVALID_VALUE, "sizes"),
    ],
    ids=["leading dimension", "no columns", "D turned", "A turned"],
)
def test_a_wrong_layout(twin, gemm, monkeypatch, of, wrong, status, why):
    """`of` is the matrix (rows, columns) as the caller has it; the layout is given by columns."""
    create = gemm.matrix_layout

    def mistaken(dtype: int, rows: int, columns: int, leading: int) -> Any:
        sizes = wrong(rows, columns, leading) if {rows, columns} == set(of) else (rows, columns, leading)
        return create(dtype, *sizes)

    monkeypatch.setattr(gemm, "matrix_layout", mistaken)
    refused(twin, gemm, status, why)


def test_a_missing_transposition(twin, gemm, monkeypatch):
    cp = importlib.import_module("cupy")
    monkeypatch.setattr(gemm, "OP_T", 0)
    refused(twin, gemm, INVALID_VALUE, "sizes", b=cp.ones((N, K), dtype="f4").T)


def test_a_bias_without_its_pointer(twin, gemm, monkeypatch):
    cp = importlib.import_module("cupy")
    setter = gemm.set_attribute
    pointer = gemm.cublaslt.DESC_BIAS_POINTER
    monkeypatch.setattr(gemm, "set_attribute", lambda *a: None if a[2] == pointer else setter(*a))
    refused(twin, gemm, INVALID_VALUE, "no bias pointer", bias=cp.ones(N, dtype="f4"))


def test_memory_that_is_less_aligned_than_was_said(twin, gemm, monkeypatch):
    cp = importlib.import_module("cupy")
    monkeypatch.setattr(gemm, "_alignment", lambda address: 64 if address else 0)
    a = next(v for k in range(9) if (v := cp.ones(M * K + 9, dtype="f4")[k : k + M * K]).data.ptr % 64)
    refused(twin, gemm, INVALID_VALUE, "not aligned to 64 bytes", a=a.reshape(M, K))


def test_types_that_are_in_no_table(twin, gemm, monkeypatch):
    monkeypatch.setitem(gemm.KINDS, "float32", gemm.KINDS["float32"]._replace(compute=70))
    with pytest.raises(RunError, match="no algorithm"):  # the library says so by its status
        multiply(gemm)
    assert twin.refusals[-1].startswith("types: 70, 0, 0, 0")
    assert NOT_SUPPORTED == gemm.cublaslt.NOT_SUPPORTED


def test_an_algorithm_of_another_product(twin, gemm):
    multiply(gemm)
    twin.products.clear()
    multiply_plan = next(iter(gemm._plans.values()))
    twin.values(multiply_plan.desc.value, "MatmulDesc")[3] = 1  # as if a plan were used for what it is not
    refused(twin, gemm, INVALID_VALUE, "")


def test_a_workspace_that_is_too_small(twin, gemm, monkeypatch):
    cp = importlib.import_module("cupy")
    multiply(gemm)
    twin.products.clear()
    monkeypatch.setattr(gemm, "WORKSPACE", 1 << 10)
    refused(twin, gemm, INVALID_VALUE, "workspace of 1024 bytes")
    monkeypatch.undo()
    for at in gemm._workspaces:
        gemm._workspaces[at] = cp.empty(1 << 20, dtype="u1")
    refused(twin, gemm, EXECUTION_FAILED, "not in one array of the device")


def test_memory_beyond_the_array(twin, gemm, monkeypatch):
    """A leading dimension that is too long reads what is not the matrix's."""
    storage = gemm._storage

    def mistaken(array: Any, name: str, batch: int) -> Any:
        found = storage(array, name, batch)
        return found._replace(leading=found.leading + 1 << 20) if name == "a" else found

    monkeypatch.setattr(gemm, "_storage", mistaken)
    refused(twin, gemm, EXECUTION_FAILED, "not in one array of the device")


def test_a_batch_that_is_written_to_one_place(twin, gemm, monkeypatch):
    cp = importlib.import_module("cupy")
    monkeypatch.setattr(gemm, "_check_output", lambda key, out: None)
    out = cp.broadcast_to(cp.empty((M, N), dtype="f4"), (2, M, N))
    refused(twin, gemm, INVALID_VALUE, "written to one place", a=cp.ones((2, M, K), dtype="f4"), out=out)
