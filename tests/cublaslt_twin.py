"""cuBLASLt on NumPy, for machines without a GPU: the same C functions, over the stand-in's memory.

It reads the descriptions that it was given as the library documents them (matrices by columns), and refuses what the
library refuses, with its status.  Every function is called through ctypes, so the arguments' types are checked too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from standin.capture import queued
from standin.memory import owners

HostArray = npt.NDArray[Any]

SUCCESS, INVALID_VALUE, EXECUTION_FAILED, INTERNAL_ERROR, NOT_SUPPORTED = 0, 7, 13, 14, 15
TEXTS = {INVALID_VALUE: b"invalid value", EXECUTION_FAILED: b"execution failed", INTERNAL_ERROR: b"internal error"}
TEXTS |= {NOT_SUPPORTED: b"not supported"}

SIZES = {  # of each attribute, as cublasLt.h documents it; the test against the library holds them to it
    "MatmulDesc": {0: c_int32, 1: c_int32, 3: c_int32, 4: c_int32, 7: c_uint32, 8: c_void_p},
    "MatrixLayout": {0: c_uint32, 1: c_int32, 2: c_uint64, 3: c_uint64, 4: c_int64, 5: c_int32, 6: c_int64},
    "MatmulPreference": {1: c_uint64, 3: c_uint32, **dict.fromkeys((5, 6, 7, 8), c_uint32)},
}
DEFAULTS = {
    "MatmulDesc": {3: 0, 4: 0, 7: 1, 8: None},
    "MatrixLayout": {1: 0, 5: 1, 6: 0},
    "MatmulPreference": {1: 0, 3: 7, **dict.fromkeys((5, 6, 7, 8), 256)},
}
DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 14: np.dtype(ml_dtypes.bfloat16)}
# (compute, scale, A and B, C and D) of the library's table, as far as the project uses it
SUPPORTED = {(68, 0, 0, 0), (77, 0, 0, 0), (68, 0, 14, 14), (68, 0, 14, 0), (70, 1, 1, 1)}
NEEDED_WORKSPACE = 1 << 20  # bytes that each algorithm asks for
WORKSPACE_ALIGNMENT = 16


class Refused(Exception):  # noqa: N818  # a status, in the library's words
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Product:
    """A product that was computed."""

    shape: tuple[int, int, int, int]  # batch, rows and columns of D, and the length of the sums
    compute: int
    beta: float
    has_bias: bool


@dataclass
class Twin:
    """The library; what it was asked for is kept for tests."""

    products: list[Product] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    heuristics: int = 0  # calls
    objects: dict[int, tuple[str, dict[int, Any]]] = field(default_factory=dict)
    chosen: list[tuple[Any, tuple[int, ...]]] = field(default_factory=list)  # configuration and alignments, by token
    fails_with: int = SUCCESS  # status of the next call of Matmul and of Create
    no_algorithm: bool = False

    def __post_init__(self) -> None:
        p, i, z = c_void_p, c_int, c_size_t
        functions: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
            "cublasLtCreate": (self.create, (p,)),
            "cublasLtMatmulDescCreate": (self.create_desc, (p, i, i)),
            "cublasLtMatrixLayoutCreate": (self.create_layout, (p, i, c_uint64, c_uint64, c_int64)),
            "cublasLtMatmulPreferenceCreate": (lambda out: self.new(out, "MatmulPreference", {}), (p,)),
            "cublasLtMatmulPreferenceDestroy": (self.destroy, (p,)),
            "cublasLtMatmulAlgoGetHeuristic": (self.heuristic, (*(p,) * 7, i, p, p)),
            "cublasLtMatmul": (self.matmul, (*(p,) * 14, z, p)),
        }
        for kind in SIZES:
            setter, getter = self.setter(kind), self.getter(kind)
            functions[f"cublasLt{kind}SetAttribute"] = setter, (p, i, p, z)
            functions[f"cublasLt{kind}GetAttribute"] = getter, (p, i, p, z, p)
        for name, (function, arguments) in functions.items():
            setattr(self, name, ctypes.CFUNCTYPE(c_int, *arguments)(self.status_of(function)))
        self.cublasLtGetVersion = lambda: 130100
        self.cublasLtGetStatusString = lambda status: TEXTS.get(status, b"unknown")

    def status_of(self, function: Callable[..., None]) -> Callable[..., int]:
        """The function as C sees it: ctypes would swallow an exception, and go on with success."""

        def call(*args: Any) -> int:
            try:
                function(*args)
            except Refused as refused:
                self.refusals.append(str(refused))
                return refused.status
            except Exception as error:
                self.refusals.append(f"{type(error).__name__} in the twin: {error}")
                return INTERNAL_ERROR
            return SUCCESS

        return call

    # --- descriptions

    def new(self, out: int, kind: str, values: dict[int, Any]) -> None:
        token = 0x1000 + 16 * len(self.objects)
        self.objects[token] = kind, {**DEFAULTS.get(kind, {}), **values}
        c_void_p.from_address(out).value = token

    def create(self, out: int) -> None:
        if self.fails_with:
            raise Refused(self.fails_with, "asked to fail")
        self.new(out, "handle", {})

    def create_desc(self, out: int, compute: int, scale: int) -> None:
        self.new(out, "MatmulDesc", {0: compute, 1: scale})

    def create_layout(self, out: int, dtype: int, rows: int, columns: int, leading: int) -> None:
        self.new(out, "MatrixLayout", {0: dtype, 2: rows, 3: columns, 4: leading})

    def destroy(self, token: int) -> None:
        self.values(token, "MatmulPreference")
        self.objects[token] = "destroyed", {}

    def values(self, token: int, kind: str) -> dict[int, Any]:
        found, values = self.objects.get(token, ("nothing", {}))
        if found != kind:
            raise Refused(INVALID_VALUE, f"{found} where a {kind} belongs")
        return values

    def setter(self, kind: str) -> Callable[..., None]:
        def set_attribute(token: int, attribute: int, held: int, size: int) -> None:
            c_type = SIZES[kind].get(attribute)
            if c_type is None or size != ctypes.sizeof(c_type):
                raise Refused(INVALID_VALUE, f"attribute {attribute} of {kind} with {size} bytes")
            self.values(token, kind)[attribute] = c_type.from_address(held).value

        return set_attribute

    def getter(self, kind: str) -> Callable[..., None]:
        def get_attribute(token: int, attribute: int, held: int, size: int, written: int) -> None:
            c_type = SIZES[kind].get(attribute)
            if c_type is None or size != ctypes.sizeof(c_type):
                raise Refused(INVALID_VALUE, f"attribute {attribute} of {kind} with {size} bytes")
            c_type.from_address(held).value = self.values(token, kind)[attribute]
            c_size_t.from_address(written).value = size

        return get_attribute

    # --- products

    def configuration(self, desc: int, layouts: tuple[int, int, int, int]) -> tuple[Any, ...]:
        """The product that is described, but for the bias's address.  Raises Refused."""
        d = self.values(desc, "MatmulDesc")
        a, b, c, out = (self.values(layout, "MatrixLayout") for layout in layouts)
        for name, layout in zip("ABCD", (a, b, c, out), strict=True):
            if layout[4] < layout[2] or min(layout[2], layout[3], layout[5]) < 1 or layout[1] != 0:
                raise Refused(INVALID_VALUE, f"layout of {name}: {layout}")
        if (d[0], d[1], a[0], out[0]) not in SUPPORTED or a[0] != b[0] or c[0] != out[0]:
            raise Refused(NOT_SUPPORTED, f"types: {d[0]}, {d[1]}, {a[0]}, {b[0]}, {c[0]}, {out[0]}")
        (m, k), (k_of_b, n) = (
            layout[3:1:-1] if d[op] else layout[2:4] for layout, op in ((list_of(a), 3), (list_of(b), 4))
        )
        if k != k_of_b or (m, n) != (out[2], out[3]) or (m, n) != (c[2], c[3]):
            raise Refused(INVALID_VALUE, f"sizes: {m} x {k}, {k_of_b} x {n} -> {out[2]} x {out[3]}")
        if len({layout[5] for layout in (a, b, c, out)}) > 1 or (out[5] > 1 and out[6] == 0):
            raise Refused(INVALID_VALUE, "batch counts, or a batch written to one place")
        if d[7] not in (1, 4):
            raise Refused(NOT_SUPPORTED, f"epilogue {d[7]}")
        if d[7] == 4 and not d[8]:
            raise Refused(INVALID_VALUE, "epilogue with a bias, and no bias pointer")
        described = ({key: value for key, value in d.items() if key != 8}, a, b, c, out)
        return tuple(tuple(sorted(values.items())) for values in described)

    def heuristic(self, handle: int, desc: int, a: int, b: int, c: int, d: int, wanted: int, *rest: int) -> None:
        n, results, n_results = rest
        self.values(handle, "handle")
        preference, self.heuristics = self.values(wanted, "MatmulPreference"), self.heuristics + 1
        configuration = self.configuration(desc, (a, b, c, d))
        found = n >= 1 and preference[1] >= NEEDED_WORKSPACE and not self.no_algorithm
        c_int.from_address(n_results).value = int(found)
        if found:
            bias = self.values(desc, "MatmulDesc")[8] or 0
            self.chosen.append((configuration, (*(preference[key] for key in (5, 6, 7, 8)), bias & -bias)))
            c_uint64.from_address(results).value = len(self.chosen)  # the first word of the algorithm
            c_size_t.from_address(results + 64).value = NEEDED_WORKSPACE

    def matmul(
        self,
        handle: int,
        desc: int,
        alpha: int,
        a: int,
        a_layout: int,
        b: int,
        b_layout: int,
        beta: int,
        c: int,
        c_layout: int,
        d: int,
        d_layout: int,
        algorithm: int,
        workspace: int,
        workspace_size: int,
        stream: int,
    ) -> None:
        self.values(handle, "handle")
        if self.fails_with:
            raise Refused(self.fails_with, "asked to fail")
        layouts = a_layout, b_layout, c_layout, d_layout
        configuration = self.configuration(desc, layouts)
        bias = self.values(desc, "MatmulDesc")[8] or 0
        self.check_launch(configuration, algorithm, (a, b, c, d, bias), (workspace, workspace_size))
        if c == d and c_layout != d_layout:
            raise Refused(INVALID_VALUE, "C in place of D, with another layout")
        description = self.values(desc, "MatmulDesc")
        scale = c_double if description[1] == 1 else c_float
        factors = scale.from_address(alpha).value, scale.from_address(beta).value
        views = [
            view_of(p, self.values(layout, "MatrixLayout")) for p, layout in zip((a, b, c, d), layouts, strict=True)
        ]
        compute(views, dict(description), factors, bias if description[7] == 4 else 0)
        batch, m, n = views[3].shape
        k = views[0].shape[1 if description[3] else 2]
        self.products.append(Product((batch, m, n, k), description[0], factors[1], description[7] == 4))

    def check_launch(
        self, configuration: Any, algorithm: int, addresses: tuple[int, ...], workspace: tuple[int, int]
    ) -> None:
        token = c_uint64.from_address(algorithm).value if algorithm else 0
        if not 1 <= token <= len(self.chosen):
            raise Refused(INVALID_VALUE, "an algorithm that the heuristic did not give")
        planned, alignments = self.chosen[token - 1]
        if planned != configuration:
            raise Refused(INVALID_VALUE, "an algorithm of another product")
        for name, address, alignment in zip(("A", "B", "C", "D", "bias"), addresses, alignments, strict=True):
            if alignment and address % min(alignment, 256):
                raise Refused(INVALID_VALUE, f"{name} at {address:#x} is not aligned to {alignment} bytes, as was said")
        place, size = workspace
        if size < NEEDED_WORKSPACE or not place or place % WORKSPACE_ALIGNMENT:
            raise Refused(INVALID_VALUE, f"workspace of {size} bytes at {place}")
        memory(place, size)


def list_of(layout: dict[int, Any]) -> list[Any]:
    return [layout[key] for key in range(5)]


@queued
def compute(views: list[HostArray], desc: dict[int, Any], factors: tuple[float, float], bias: int) -> None:
    """D = alpha op(A) op(B) + beta C + bias, in the compute type; beta = 0: C is not read."""
    a, b, c, d = views
    wide = np.dtype("f8") if desc[1] == 1 else np.dtype("f4")
    left, right = (rounded(x.astype(wide), desc[0]) for x in (a, b))
    left = left.swapaxes(1, 2) if desc[3] else left
    right = right.swapaxes(1, 2) if desc[4] else right
    with np.errstate(all="ignore"):
        result = wide.type(factors[0]) * (left @ right)
        if factors[1]:
            result += wide.type(factors[1]) * c.astype(wide)
        if bias:
            vector = np.frombuffer(memory(bias, d.shape[1] * d.itemsize), d.dtype)
            result += vector.astype(wide)[:, None]
    d[...] = result


def view_of(address: int, layout: dict[int, Any]) -> HostArray:
    """The matrices (batch, rows, columns) at an address, as they lie."""
    dtype, rows, columns, leading, batch, stride = (layout[key] for key in (0, 2, 3, 4, 5, 6))
    size = DTYPES[dtype].itemsize
    if not address or address % size:
        raise Refused(INVALID_VALUE, f"a matrix at {address}")
    extent = (batch - 1) * stride + (columns - 1) * leading + rows
    flat = np.frombuffer(memory(address, extent * size), DTYPES[dtype])
    return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), (stride * size, size, leading * size))


def memory(address: int, size: int) -> Any:
    """Bytes of one of the stand-in's arrays.  Raises Refused for any other memory, at which a GPU would fault."""
    for owner in list(owners.values()):
        low, high = np.lib.array_utils.byte_bounds(owner._host)
        if low <= address and address + size <= high:
            return (ctypes.c_char * size).from_address(address)
    raise Refused(EXECUTION_FAILED, f"{size} bytes at {address:#x} are not in one array of the device")


def rounded(x: HostArray, compute_type: int) -> HostArray:
    """TF32's inputs: a mantissa of 10 bits, rounded to the nearest, ties away from 0."""
    if compute_type != 77:
        return x
    return ((np.ascontiguousarray(x).view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
