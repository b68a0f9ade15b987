"""Products of matrices by cuBLASLt, into given memory: out = a b, or out += a b, with a bias added on the way.

cuBLASLt stores matrices by columns, so that a row-major matrix is its own transpose: out^T = b^T a^T is what it is
asked for, b^T being b's memory as it lies.

The algorithm of a product is the heuristic's first answer, chosen once from shapes, strides and alignments.  It is
never chosen by timing: another algorithm gives other bits, and two runs would differ.
"""

from __future__ import annotations

from ctypes import byref, c_double, c_float
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeAlias

import cupy
import numpy as np

from ...errors import RunError
from . import cublaslt
from .cublaslt import OP_N, OP_T, matrix_layout, set_attribute
from .launch import BF16

Array: TypeAlias = Any  # a cupy.ndarray
Kind: TypeAlias = Literal["float32", "tf32", "bf16", "float64"]

WORKSPACE = 32 << 20  # bytes, as NVIDIA advises for Hopper
MAX_ALIGNMENT = 256  # bytes; the heuristic knows of none above


class Arithmetic(NamedTuple):
    """A kind of product: how it is computed, in cudaDataTypes, and the dtypes of its arrays."""

    compute: int
    scale: int
    inputs: np.dtype[Any]
    outputs: tuple[np.dtype[Any], ...]


FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TYPES = {FLOAT32: cublaslt.R_32F, FLOAT64: cublaslt.R_64F, BF16: cublaslt.R_16BF}
KINDS: dict[str, Arithmetic] = {
    "float32": Arithmetic(cublaslt.COMPUTE_32F, cublaslt.R_32F, FLOAT32, (FLOAT32,)),
    "tf32": Arithmetic(cublaslt.COMPUTE_32F_FAST_TF32, cublaslt.R_32F, FLOAT32, (FLOAT32,)),
    "bf16": Arithmetic(cublaslt.COMPUTE_32F, cublaslt.R_32F, BF16, (BF16, FLOAT32)),
    "float64": Arithmetic(cublaslt.COMPUTE_64F, cublaslt.R_64F, FLOAT64, (FLOAT64,)),
}
FACTORS: dict[int, Any] = {  # 0 and 1 in the type of alpha and beta
    cublaslt.R_32F: (c_float(0), c_float(1)),
    cublaslt.R_64F: (c_double(0), c_double(1)),
}


class Storage(NamedTuple):
    """The place of a matrix's elements in memory, counted in elements."""

    transposed: bool  # by columns: the matrix is the transpose of one that lies by rows
    leading: int  # from one row to the next, or from one column
    batch_stride: int  # from one matrix to the next; 0: the same for all


class Key(NamedTuple):
    """The facts that a product's algorithm depends on."""

    device: int
    kind: str
    shape: tuple[int, int, int, int]  # batch, M, N, K
    a: Storage
    b: Storage
    out: Storage
    out_type: int
    alignments: tuple[int, int, int, int]  # bytes, of a, b, out and bias; the last 0: no bias


class Plan(NamedTuple):
    """A product as cuBLASLt describes it, and its algorithm."""

    desc: Any
    a: Any
    b: Any
    out: Any
    algorithm: Any
    factors: Any


_plans: dict[Key, Plan] = {}
_workspaces: dict[tuple[int, int], Array] = {}  # by device and stream: what is queued on one stream takes turns
_lock = Lock()  # a plan holds the bias's address from its setting to the launch


def gemm(
    a: Array, b: Array, out: Array, kind: Kind = "float32", *, accumulate: bool = False, bias: Array | None = None
) -> None:
    """Write a @ b + bias to `out`, or add it if `accumulate`, on the current stream.

    a (M, K), b (K, N), out (M, N), bias (N,); or a batch of them, (B, M, K), (B, K, N), (B, M, N) and one bias, where a
    or b may be one matrix for all.  a and b may be transposed views, all may be parts of wider matrices; out lies by
    rows, and must not overlap a or b.

    kind: "float32"; "tf32", on float32 with products of 10-bit mantissas; "bf16", on bfloat16, summed in float32, with
    `out` of bfloat16 or float32; "float64".  The bias has the dtype of out.

    Raises ValueError and TypeError for shapes, strides and dtypes that do not fit, RunError where cuBLASLt fails.
    """
    arithmetic = KINDS[kind]
    _check_dtypes(a, b, out, bias, kind, arithmetic)
    shape = _shape_of(a, b, out, bias)
    batch, _, _, K = shape
    if not out.size:
        return
    if not K:
        _write_empty_sum(out, accumulate, bias)
        return
    device = cupy.cuda.runtime.getDevice()
    addresses = a.data.ptr, b.data.ptr, out.data.ptr, 0 if bias is None else bias.data.ptr
    key = Key(
        device,
        kind,
        shape,
        _storage(a, "a", batch),
        _storage(b, "b", batch),
        _storage(out, "out", batch),
        TYPES[out.dtype],
        (_alignment(addresses[0]), _alignment(addresses[1]), _alignment(addresses[2]), _alignment(addresses[3])),
    )
    _check_output(key, out)
    with _lock:
        plan = _plans.get(key)
        if plan is None:
            plan = _plans[key] = _plan(key, addresses[3])
        _launch(plan, key, addresses, accumulate)


def _launch(plan: Plan, key: Key, addresses: tuple[int, int, int, int], accumulate: bool) -> None:
    a, b, out, bias = addresses
    if bias:
        set_attribute("MatmulDesc", plan.desc, cublaslt.DESC_BIAS_POINTER, bias)
    stream = cupy.cuda.get_current_stream().ptr
    workspace = _workspaces.get((key.device, stream))
    if workspace is None:
        workspace = make_workspace(stream)
    status = cublaslt.library().cublasLtMatmul(
        cublaslt.handle(key.device),
        plan.desc,
        byref(plan.factors[1]),
        b,
        plan.b,
        a,
        plan.a,
        byref(plan.factors[accumulate]),
        out,
        plan.out,
        out,
        plan.out,
        byref(plan.algorithm),
        workspace.data.ptr,
        WORKSPACE,
        stream,
    )
    if status:
        cublaslt.check(status, _described(key))


def make_workspace(stream: int) -> Array:
    """Make the workspace of a stream, by its pointer, on the current device."""
    device = cupy.cuda.runtime.getDevice()
    workspace = _workspaces[device, stream] = cupy.empty(WORKSPACE, dtype=cupy.uint8)
    return workspace


def workspace_bytes() -> int:
    """Bytes of the workspaces that are allocated."""
    return sum(workspace.nbytes for workspace in _workspaces.values())


# --- the plan of a product


def _plan(key: Key, bias: int) -> Plan:
    """Describe out^T = b^T a^T by columns, and ask for its algorithm.  Raises RunError if there is none."""
    arithmetic, (batch, M, N, K) = KINDS[key.kind], key.shape
    desc = cublaslt.matmul_desc(arithmetic.compute, arithmetic.scale)
    set_attribute("MatmulDesc", desc, cublaslt.DESC_TRANSA, OP_T if key.b.transposed else OP_N)
    set_attribute("MatmulDesc", desc, cublaslt.DESC_TRANSB, OP_T if key.a.transposed else OP_N)
    if bias:  # along the rows of out^T
        set_attribute("MatmulDesc", desc, cublaslt.DESC_EPILOGUE, cublaslt.EPILOGUE_BIAS)
        set_attribute("MatmulDesc", desc, cublaslt.DESC_BIAS_POINTER, bias)  # the heuristic asks for its alignment
    in_type = TYPES[arithmetic.inputs]
    layout_a = _layout(in_type, M, K, key.a, batch)
    layout_b = _layout(in_type, K, N, key.b, batch)
    layout_out = _layout(key.out_type, M, N, key.out, batch)
    wanted = _preference(key)
    algorithm = cublaslt.first_algorithm(key.device, desc, (layout_b, layout_a, layout_out), wanted)
    cublaslt.library().cublasLtMatmulPreferenceDestroy(wanted)
    if algorithm is None:
        raise RunError(f"cuBLASLt {cublaslt.version()} has no algorithm for {_described(key)}")
    return Plan(desc, layout_a, layout_b, layout_out, algorithm, FACTORS[arithmetic.scale])


def _layout(data_type: int, rows: int, columns: int, storage: Storage, batch: int) -> Any:
    """The layout, by columns, of the transpose of a matrix (rows, columns), or of itself if it lies by columns."""
    size = (rows, columns) if storage.transposed else (columns, rows)
    layout = matrix_layout(data_type, *size, storage.leading)
    if batch > 1:
        set_attribute("MatrixLayout", layout, cublaslt.LAYOUT_BATCH_COUNT, batch)
        set_attribute("MatrixLayout", layout, cublaslt.LAYOUT_BATCH_STRIDE, storage.batch_stride)
    return layout


def _preference(key: Key) -> Any:
    wanted = cublaslt.preference()
    set_attribute("MatmulPreference", wanted, cublaslt.PREFERENCE_WORKSPACE, WORKSPACE)
    if key.out_type == cublaslt.R_16BF:  # other schemes add parts of a long sum in bf16
        set_attribute("MatmulPreference", wanted, cublaslt.PREFERENCE_REDUCTION, cublaslt.REDUCTION_COMPUTE_TYPE)
    a, b, out, _ = key.alignments
    for attribute, alignment in (
        (cublaslt.PREFERENCE_ALIGNMENT_A, b),
        (cublaslt.PREFERENCE_ALIGNMENT_B, a),
        (cublaslt.PREFERENCE_ALIGNMENT_C, out),
        (cublaslt.PREFERENCE_ALIGNMENT_D, out),
    ):
        set_attribute("MatmulPreference", wanted, attribute, alignment)
    return wanted


def _described(key: Key) -> str:
    batch, M, N, K = key.shape
    times = f"{batch} times " if batch > 1 else ""
    layouts = "".join("by columns, " if storage.transposed else "by rows, " for storage in (key.a, key.b))
    return f"{times}({M}, {K}) @ ({K}, {N}) in {key.kind}, {layouts}aligned to {key.alignments} bytes"


# --- arguments


def _check_dtypes(a: Array, b: Array, out: Array, bias: Array | None, kind: str, arithmetic: Arithmetic) -> None:
    fit = a.dtype == b.dtype == arithmetic.inputs and out.dtype in arithmetic.outputs
    if not fit or (bias is not None and bias.dtype != out.dtype):
        given = f"{a.dtype} @ {b.dtype} -> {out.dtype}" + ("" if bias is None else f" with a bias of {bias.dtype}")
        allowed = " or ".join(str(dtype) for dtype in arithmetic.outputs)
        raise TypeError(
            f"gemm: {given} is not of kind {kind!r}: inputs {arithmetic.inputs}, output {allowed}, bias as the output"
        )


def _shape_of(a: Array, b: Array, out: Array, bias: Array | None) -> tuple[int, int, int, int]:
    """(batch, M, N, K); the batch is 1 for matrices alone."""
    fit = all(x.ndim in (2, 3) for x in (a, b, out))
    if fit:
        (M, K), N, batch = a.shape[-2:], b.shape[-1], out.shape[0] if out.ndim == 3 else 1
        fit = b.shape[-2] == K and out.shape[-2:] == (M, N)
        fit = fit and all(x.ndim == 2 or (out.ndim == 3 and x.shape[0] in (1, batch)) for x in (a, b))
        fit = fit and (bias is None or bias.shape == (N,))
    if not fit:
        with_bias = "" if bias is None else f" with a bias {bias.shape}"
        raise ValueError(
            f"gemm: shapes {a.shape} @ {b.shape} -> {out.shape}{with_bias} do not fit: "
            "([B,] M, K) @ ([B,] K, N) -> ([B,] M, N) with a bias (N,)"
        )
    if bias is not None and not bias.flags.c_contiguous:
        raise ValueError(f"gemm: a bias with strides {bias.strides} is not contiguous")
    return batch, M, N, K


def _storage(array: Array, name: str, batch: int) -> Storage:
    """The storage of an array's matrices; the stride of an axis of one element is not looked at."""
    rows, columns = array.shape[-2:]
    row, column = (stride // array.itemsize for stride in array.strides[-2:])
    one_for_all = array.ndim == 2 or array.shape[0] == 1 or batch == 1
    batch_stride = 0 if one_for_all else array.strides[0] // array.itemsize
    if batch_stride >= 0:
        if (column == 1 or columns == 1) and (row >= columns or rows == 1):
            return Storage(False, columns if rows == 1 else row, batch_stride)
        if (row == 1 or rows == 1) and (column >= rows or columns == 1):
            return Storage(True, rows if columns == 1 else column, batch_stride)
    raise ValueError(
        f"gemm: {name} with shape {array.shape} and strides {array.strides} lies neither by rows nor by columns; "
        "copy it with ascontiguousarray"
    )


def _check_output(key: Key, out: Array) -> None:
    if key.out.transposed or (key.shape[0] > 1 and key.out.batch_stride == 0):
        raise ValueError(f"gemm: out with shape {out.shape} and strides {out.strides} does not lie by rows, once each")


def _write_empty_sum(out: Array, accumulate: bool, bias: Array | None) -> None:
    """The product of matrices with K = 0 is 0."""
    if not accumulate:
        out[...] = 0 if bias is None else bias
    elif bias is not None:
        raise ValueError("gemm: K = 0 with accumulate and a bias; add the bias to out instead")


def _alignment(address: int) -> int:
    """The largest power of two that divides an address, at most MAX_ALIGNMENT; 0 for no address."""
    return min(address & -address, MAX_ALIGNMENT)
