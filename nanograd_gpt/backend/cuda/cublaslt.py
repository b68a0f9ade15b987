"""cuBLASLt through ctypes: the library, its functions' types, its constants, and its errors as one line.

The names and numbers are those of cublasLt.h and library_types.h, which are the same in CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p, sizeof
from ctypes.util import find_library
from functools import cache
from typing import Any, TypeAlias

import cupy

from ...errors import RunError

# cudaDataType
R_32F, R_64F, R_16BF = 0, 1, 14
# cublasComputeType_t
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
# cublasStatus_t
NOT_SUPPORTED = 15
# cublasOperation_t
OP_N, OP_T = 0, 1
# cublasLtEpilogue_t
EPILOGUE_BIAS = 4
# cublasLtReductionScheme_t: partial sums are added in the compute type, not in the output's
REDUCTION_COMPUTE_TYPE = 2

# The attributes that are set, with their C types: cublasLtMatmulDescAttributes_t, ...
DESC_TRANSA, DESC_TRANSB = (3, c_int32), (4, c_int32)
DESC_EPILOGUE, DESC_BIAS_POINTER = (7, c_uint32), (8, c_void_p)
LAYOUT_BATCH_COUNT, LAYOUT_BATCH_STRIDE = (5, c_int32), (6, c_int64)
PREFERENCE_WORKSPACE, PREFERENCE_REDUCTION = (1, c_uint64), (3, c_uint32)
PREFERENCE_ALIGNMENT_A, PREFERENCE_ALIGNMENT_B = (5, c_uint32), (6, c_uint32)
PREFERENCE_ALIGNMENT_C, PREFERENCE_ALIGNMENT_D = (7, c_uint32), (8, c_uint32)

Attribute: TypeAlias = tuple[int, Any]


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t, opaque."""

    _fields_ = (("data", c_uint64 * 8),)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t"""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace_size", c_size_t),
        ("state", c_int),
        ("waves", ctypes.c_float),
        ("reserved", c_int * 4),
    )


POINTER = c_void_p  # of any kind: handles, descriptors, memory, and byref() of a variable
SIGNATURES: dict[str, tuple[Any, ...]] = {  # arguments; each returns a cublasStatus_t but the two below
    "cublasLtCreate": (POINTER,),
    "cublasLtMatmulDescCreate": (POINTER, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": (POINTER, c_int, POINTER, c_size_t),
    "cublasLtMatmulDescGetAttribute": (POINTER, c_int, POINTER, c_size_t, POINTER),
    "cublasLtMatrixLayoutCreate": (POINTER, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": (POINTER, c_int, POINTER, c_size_t),
    "cublasLtMatrixLayoutGetAttribute": (POINTER, c_int, POINTER, c_size_t, POINTER),
    "cublasLtMatmulPreferenceCreate": (POINTER,),
    "cublasLtMatmulPreferenceSetAttribute": (POINTER, c_int, POINTER, c_size_t),
    "cublasLtMatmulPreferenceGetAttribute": (POINTER, c_int, POINTER, c_size_t, POINTER),
    "cublasLtMatmulPreferenceDestroy": (POINTER,),
    "cublasLtMatmulAlgoGetHeuristic": (*(POINTER,) * 7, c_int, POINTER, POINTER),
    "cublasLtMatmul": (*(POINTER,) * 14, c_size_t, POINTER),
}
RESULTS = {"cublasLtGetVersion": c_size_t, "cublasLtGetStatusString": ctypes.c_char_p}


class LibraryMissingError(RunError):
    """cuBLASLt was not found, or could not be loaded."""


class CublasLtError(RunError):
    """A call of cuBLASLt's returned a status other than success, which is kept."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@cache
def library() -> Any:
    """The loaded library, with the types of its functions.  Raises LibraryMissingError."""
    return typed(load())


def load() -> Any:
    """Load cuBLASLt: what cuda.pathfinder finds, as CuPy does, or the system's, of the major version of CuPy's CUDA."""
    failures: list[str] = []
    for find in (_by_pathfinder, _by_name, _by_linker):
        try:
            return ctypes.CDLL(find())
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: pathfinder's DynamicLibNotFoundError
            failures.append(" ".join(str(error).split()))
    raise LibraryMissingError(f"cuBLASLt cannot be loaded: {failures[0]}")


def _by_pathfinder() -> str:
    from cuda import pathfinder  # comes with CuPy 14

    return pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path


def _by_name() -> str:
    """The name under which the linker also finds a library that CuPy has loaded."""
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return f"cublasLt64_{major}.dll" if sys.platform == "win32" else f"libcublasLt.so.{major}"


def _by_linker() -> str:
    found = find_library("cublasLt")
    if found is None:
        raise OSError("cublasLt: the system's linker does not know it")
    return found


def typed(lib: Any) -> Any:
    """Declare the arguments and results of the library's functions."""
    for name, arguments in SIGNATURES.items():
        function = getattr(lib, name)
        function.argtypes, function.restype = arguments, c_int
    for name, result in RESULTS.items():
        getattr(lib, name).restype = result
    return lib


def check(status: int, what: str) -> None:
    """Raise CublasLtError, in one line, for a status that is not CUBLAS_STATUS_SUCCESS."""
    if status:
        reason = library().cublasLtGetStatusString(status).decode()
        raise CublasLtError(f"cuBLASLt {version()}, {what}: {reason} (status {status})", status)


def version() -> str:
    """The library's version: '13.1.0' of 130100."""
    number = library().cublasLtGetVersion()
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


@cache
def handle(device: int) -> c_void_p:
    """The handle of a device, which must be the current one.  Raises CublasLtError without a GPU."""
    created = c_void_p()
    check(library().cublasLtCreate(byref(created)), f"device {device}")
    return created


def matmul_desc(compute_type: int, scale_type: int) -> c_void_p:
    """A new description of a product: how it is computed, and the type of its factors alpha and beta."""
    desc = c_void_p()
    check(library().cublasLtMatmulDescCreate(byref(desc), compute_type, scale_type), "description of a product")
    return desc


def matrix_layout(data_type: int, rows: int, columns: int, leading: int) -> c_void_p:
    """A new description of a matrix that is stored column by column, `leading` elements from one to the next."""
    layout = c_void_p()
    status = library().cublasLtMatrixLayoutCreate(byref(layout), data_type, rows, columns, leading)
    check(status, f"layout of a matrix {rows} x {columns}, leading dimension {leading}")
    return layout


def preference() -> c_void_p:
    """A new description of what the heuristic is to look for; to be destroyed after use."""
    created = c_void_p()
    check(library().cublasLtMatmulPreferenceCreate(byref(created)), "preference")
    return created


def set_attribute(kind: str, description: c_void_p, attribute: Attribute, value: int) -> None:
    """Set an attribute; kind is MatmulDesc, MatrixLayout or MatmulPreference."""
    number, c_type = attribute
    held = c_type(value)
    status = getattr(library(), f"cublasLt{kind}SetAttribute")(description, number, byref(held), sizeof(held))
    check(status, f"attribute {number} of {kind}")


def first_algorithm(
    device: int, desc: c_void_p, layouts: tuple[c_void_p, c_void_p, c_void_p], wanted: c_void_p
) -> Algorithm | None:
    """The heuristic's first answer for layouts A, B and C = D; None if it has none."""
    a, b, c = layouts
    result, n_results = Heuristic(), c_int()
    call = library().cublasLtMatmulAlgoGetHeuristic
    status = call(handle(device), desc, a, b, c, c, wanted, 1, byref(result), byref(n_results))
    if status != NOT_SUPPORTED:
        check(status, "choice of an algorithm")
    return result.algorithm if n_results.value else None
