"""Kernels from .cu files: compiled once, and launched with arguments that fit the source's own signatures.

CuPy passes Python's numbers as 64 bits and arrays as bare addresses, whatever the kernel's parameters are, so both are
checked and converted here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cupy
import ml_dtypes
import numpy as np

FOLDER = Path(__file__).parent
OPTIONS = ("--std=c++17", f"-I{FOLDER}")
ALIGNMENT = 16  # bytes: a thread's largest load
SHARED_BY_DEFAULT = 48 * 1024  # bytes; a kernel that needs more has to ask for it
BF16 = np.dtype(ml_dtypes.bfloat16)
MAX_GRID = (2**31 - 1, 65535, 65535)  # blocks

DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "bf16": BF16,
    "int": np.int32,
    "unsigned": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "bool": np.bool_,
}
KERNEL = re.compile(
    r"(?:template\s*<([^>]*)>\s*)?__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)"
)
WORDS = re.compile(r"\b(?:const|__restrict__|typename|class)\b")

Grid: TypeAlias = tuple[int, ...]
Conversion: TypeAlias = Callable[[Any], Any]

NULL = np.uintp(0)  # a null pointer


class Parameter(NamedTuple):
    """A kernel's parameter: its name, its type without const and *, and whether it is an array."""

    name: str
    type: str
    is_array: bool


class Source:
    """A .cu file of this folder, and the kernels to compile from it, with their template arguments: "adamw<float>"."""

    def __init__(self, file: str, *kernels: str) -> None:
        self.file, self.kernels = file, kernels
        self._prepared: dict[str, tuple[Any, list[Conversion]]] = {}

    @cached_property
    def text(self) -> str:
        return (FOLDER / self.file).read_text(encoding="utf-8")

    @cached_property
    def signatures(self) -> dict[str, list[Parameter]]:
        """The parameters of each kernel to compile, with template arguments in place of their names."""
        declared = {name: (template or "", parameters) for template, name, parameters in KERNEL.findall(self.text)}
        found = {}
        for kernel in self.kernels:
            name, _, given = kernel.rstrip(">").partition("<")
            template, parameters = declared[name]
            names = [word.split()[-1] for word in template.split(",") if word.strip()]
            bound = dict(zip(names, (word.strip() for word in given.split(",")), strict=bool(names)))
            found[kernel] = [_parameter(text, bound) for text in parameters.split(",")]
        return found

    @cached_property
    def _module(self) -> Any:
        return cupy.RawModule(code=self.text, options=OPTIONS, name_expressions=self.kernels)

    def launch(self, kernel: str, grid: Grid, block: Grid, *arguments: Any, shared: int = 0) -> None:
        """Run a kernel on the current stream; does nothing for an empty grid.

        grid, block: numbers of blocks and of threads; shared: bytes of dynamic shared memory.
        Raises TypeError or ValueError for arguments that the kernel would misread.
        """
        if 0 in grid:
            return
        if max(grid) > MAX_GRID[-1] and any(n > most for n, most in zip(grid, MAX_GRID, strict=False)):
            raise ValueError(f"{kernel}: a grid of {grid} blocks is larger than {MAX_GRID}")
        prepared = self._prepared.get(kernel)
        if prepared is None:
            prepared = self._prepared[kernel] = self._prepare(kernel)
        function, conversions = prepared
        if len(arguments) != len(conversions):
            raise TypeError(f"{kernel}: {len(arguments)} arguments for {len(conversions)} parameters")
        passed = tuple([convert(argument) for convert, argument in zip(conversions, arguments, strict=True)])
        if shared > SHARED_BY_DEFAULT:
            function.max_dynamic_shared_size_bytes = shared
        function.kernel(grid, block, passed, shared_mem=shared)

    def _prepare(self, kernel: str) -> tuple[Any, list[Conversion]]:
        """Compile a kernel; returns it, and the conversion of each argument to what CuPy passes unchanged."""
        conversions: list[Conversion] = []
        for parameter in self.signatures[kernel]:
            dtype = DTYPES[parameter.type]
            # NumPy raises OverflowError for an int that does not fit
            conversions.append(_array_check(f"{kernel}: {parameter.name}", dtype) if parameter.is_array else dtype)
        return self._module.get_function(kernel), conversions


def _parameter(text: str, bound: dict[str, str]) -> Parameter:
    """Read one parameter, such as "const T* __restrict__ x", with T bound to a type."""
    *words, name = WORDS.sub("", text).replace("*", " * ").split()
    kind = " ".join(word for word in words if word != "*")
    return Parameter(name, bound.get(kind, kind), "*" in words)


def _array_check(where: str, scalar: Any) -> Conversion:
    """The check of an array argument, whose Python time counts: a step has hundreds of launches."""
    dtype, array_type = np.dtype(scalar), cupy.ndarray

    def checked(value: Any) -> Any:
        if value is None:
            return NULL
        if not isinstance(value, array_type):
            raise TypeError(f"{where} is a {type(value).__name__}, expected a CuPy array")
        if value.dtype != dtype:
            raise TypeError(f"{where} is of {value.dtype}, expected {dtype}")
        if not value.flags.c_contiguous:
            raise ValueError(f"{where} of shape {value.shape} is not contiguous")
        if value.data.ptr % ALIGNMENT:
            raise ValueError(f"{where} begins at an address that is not a multiple of {ALIGNMENT}")
        return value

    return checked


def type_of(array: Any) -> str:
    """The type of an array's elements in a kernel's name, of float32 and bf16."""
    return "bf16" if array.dtype == BF16 else "float"


def address(array: Any) -> int:
    """The device address of an array's first element."""
    pointer: int = array.data.ptr
    return pointer


def fits(*arrays: Any) -> bool:
    """Whether own kernels take these arrays: float32, contiguous and aligned; None fits."""
    return all(a is None or (a.dtype == np.float32 and _lies_well(a)) for a in arrays)


def fits_rounded(*arrays: Any) -> bool:
    """As fits, of arrays that may be bf16 too."""
    return all(a is None or ((a.dtype == np.float32 or a.dtype == BF16) and _lies_well(a)) for a in arrays)


def lying_well(array: Any) -> Any:
    """The array, or a copy where it is not contiguous or not aligned as the kernels take it."""
    return array if _lies_well(array) else array.copy(order="C")


def _lies_well(array: Any) -> bool:
    return array.flags.c_contiguous and address(array) % ALIGNMENT == 0


def blocks_for(n: int, per_block: int, most: int | None = None) -> Grid:
    """The grid of blocks that cover n elements, `per_block` each; at most `most` blocks, which then loop."""
    number = -(-n // per_block)
    return (number if most is None else min(number, most),)
