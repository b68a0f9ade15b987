"""Plans, workspace and refusals of gemm(), through the twin of cuBLASLt.  Its results: see test_products.py."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from cublaslt_twin import Twin
from standin.cupy_standin import installed

from nanograd_gpt.errors import RunError


@pytest.fixture(autouse=True)
def twin():
    with installed() as record:
        yield record.cublaslt


@pytest.fixture
def gemm():
    return importlib.import_module("nanograd_gpt.backend.cuda.gemm").gemm


# --- plans


def test_an_algorithm_is_chosen_once_for_a_shape_and_not_by_timing(twin, gemm):
    cp = importlib.import_module("cupy")
    a, b, out = (cp.ones((8, 8), dtype="f4") for _ in range(3))
    biases = cp.asarray(np.repeat([[0.0], [1.0]], 64, axis=1).astype("f4"))[:, :8]  # 256 bytes apart, as parameters are
    for k in range(4):
        gemm(a, b, out, bias=biases[k % 2])
        assert (out.get() == 8 + k % 2).all()  # the plan takes each bias's address anew
    assert (twin.heuristics, len(twin.products)) == (1, 4)
    gemm(a, b, out)
    gemm(a.T, b, out)
    gemm(a, b, out, "tf32")
    gemm(a[:4], b, out[:4])
    assert twin.heuristics == 5


def test_another_alignment_is_another_plan(twin, gemm):
    """The heuristic may choose loads of 16 bytes at once; a view that begins at an odd element needs others."""
    cp = importlib.import_module("cupy")
    flat, b, out = cp.ones(65, dtype="f4"), cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
    for begin in (0, 1, 0, 1):
        gemm(flat[begin : begin + 64].reshape(8, 8), b, out)
        assert (out.get() == 8).all()
    assert (twin.heuristics, twin.refusals) == (2, [])


def test_the_workspace_is_allocated_once(gemm):
    module = importlib.import_module("nanograd_gpt.backend.cuda.gemm")
    cp = importlib.import_module("cupy")
    a, out = cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
    for kind in ("float32", "tf32"):
        gemm(a, a, out, kind)
    assert [array.nbytes for array in module._workspaces.values()] == [module.WORKSPACE]


def test_nothing_waits_for_the_device(gemm):
    cp = importlib.import_module("cupy")
    with installed() as record:
        a, out = cp.ones((8, 8), dtype="f4"), cp.empty((8, 8), dtype="f4")
        gemm(a, a, out)
        assert (record.syncs, record.uploads) == ([], [])


# --- refusals


@pytest.mark.parametrize(
    ("a", "b", "out", "bias", "kind", "error", "says"),
    [
        ("f4 2 3", "f4 4 5", "f4 2 5", None, "float32", ValueError, r"\(2, 3\) @ \(4, 5\) -> \(2, 5\)"),
        ("f4 2 3", "f4 3 5", "f4 5 2", None, "float32", ValueError, "do not fit"),
        ("f4 2 3", "f4 3 5", "f4 2 5", "f4 2", "float32", ValueError, r"with a bias \(2,\)"),
        ("f4 3", "f4 3 5", "f4 5", None, "float32", ValueError, "do not fit"),
        ("f4 4 2 3", "f4 3 5", "f4 2 5", None, "float32", ValueError, "do not fit"),
        ("f4 4 2 3", "f4 2 3 5", "f4 4 2 5", None, "float32", ValueError, "do not fit"),
        ("f8 2 3", "f4 3 5", "f4 2 5", None, "float32", TypeError, "float64 @ float32 -> float32 is not of kind"),
        ("f4 2 3", "f4 3 5", "f8 2 5", None, "float32", TypeError, "inputs float32, output float32"),
        ("f4 2 3", "f4 3 5", "f4 2 5", None, "bf16", TypeError, "inputs bfloat16, output bfloat16 or float32"),
        ("bfloat16 2 3", "bfloat16 3 5", "bfloat16 2 5", "f4 5", "bf16", TypeError, "with a bias of float32"),
        ("f4 2 3", "f4 3 5", "f4 2 5", None, "float64", TypeError, "kind 'float64'"),
    ],
)
def test_shapes_and_dtypes_that_do_not_fit_are_named(twin, gemm, a, b, out, bias, kind, error, says):
    cp = importlib.import_module("cupy")

    def array(text: str | None) -> Any:
        if text is None:
            return None
        dtype, *shape = text.split()
        return cp.zeros([int(n) for n in shape], dtype=dtype)

    with pytest.raises(error, match=says):
        gemm(array(a), array(b), array(out), kind, bias=array(bias))
    assert twin.products == []


def test_strides_that_no_layout_has_are_named(twin, gemm):
    cp = importlib.import_module("cupy")
    a = cp.ones((8, 8), dtype="f4")
    for strided in (cp.ones((16, 16), dtype="f4")[::2, ::2], a[:, ::-1], a[::-1], cp.broadcast_to(a[:1], (8, 8))):
        with pytest.raises(ValueError, match=r"a with shape .* lies neither by rows nor by columns"):
            gemm(strided, a, cp.empty((8, 8), dtype="f4"))
    with pytest.raises(ValueError, match=r"out with shape .* does not lie by rows"):
        gemm(a, a, cp.empty((8, 8), dtype="f4").T)
    with pytest.raises(ValueError, match="does not lie by rows, once each"):
        gemm(cp.ones((2, 8, 8), dtype="f4"), a, cp.broadcast_to(a, (2, 8, 8)))
    with pytest.raises(ValueError, match=r"bias with strides \(8,\) is not contiguous"):
        gemm(a, a, cp.empty((8, 8), dtype="f4"), bias=cp.ones(16, dtype="f4")[::2])
    assert twin.products == []


def test_a_failure_of_the_library_is_one_line(twin: Twin, gemm):
    cp = importlib.import_module("cupy")
    a = cp.ones((8, 8), dtype="f4")
    twin.no_algorithm = True
    with pytest.raises(
        RunError, match=r"cuBLASLt 13\.1\.0 has no algorithm for \(8, 8\) @ \(8, 8\) in float32, by rows"
    ):
        gemm(a, a, a.copy())
    twin.no_algorithm = False
    gemm(a, a, a.copy())
    twin.fails_with = 13
    with pytest.raises(RunError, match=r"\(8, 8\) @ .*: execution failed \(status 13\)$"):
        gemm(a, a, a.copy())
