"""cupy.RawModule on the CPU, for tests: the same .cu text, compiled by g++, each CUDA thread a fiber.

    module = RawModule(code=text, options=("-Inanograd_gpt/backend/cuda",), name_expressions=["scale<float>"])
    module.get_function("scale<float>")((blocks,), (256,), (x, y, np.int32(n)))

Arrays are NumPy's here; the stand-in for CuPy gives those of its device arrays.  What a launch may not do is a
SimulatorError that names the kernel, the line and what is wrong: an argument of another type than the parameter's, a
write outside of an array, a barrier that not all threads reach, a warp primitive that waits for a lane that has
returned.  Memory that was never written is nan.  What it cannot show: speed, and the bits of a GPU's fast functions.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import compiler
from .errors import SimulatorError
from .memory import HostArray, Regions
from .translate import Changes, file_name, kernel_names, translate

MOST_THREADS, MOST_GRID_YZ, MOST_GRID_X = 1024, 65535, 2**31 - 1
DYNAMIC_SHARED, MOST_DYNAMIC_SHARED = 48 << 10, 227 << 10  # without and with max_dynamic_shared_size_bytes

IN_ORDER, REVERSED, SHUFFLED = 0, 1, 2  # the orders in which threads and blocks run; from 2 on, seeds


class Settings:
    """What all modules share: the thread order, changed texts, and who keeps the launches."""

    order = IN_ORDER
    changes: Changes = {}  # noqa: RUF012  # of the one object below
    kept: list[Launch] | None = None


settings = Settings()


@contextmanager
def thread_order(order: int) -> Iterator[None]:
    """Run every launch in the block with this order of threads and blocks."""
    before, settings.order = settings.order, order
    try:
        yield
    finally:
        settings.order = before


@contextmanager
def changed(text: str, other: str) -> Iterator[None]:
    """Compile the other text wherever a .cu or an included file has this one."""
    settings.changes[text] = other
    try:
        yield
    finally:
        del settings.changes[text]


@contextmanager
def kept_launches() -> Iterator[list[Launch]]:
    """A list of the launches in the block, with the arguments' values before each."""
    before, settings.kept = settings.kept, []
    try:
        yield settings.kept
    finally:
        settings.kept = before


@dataclass(frozen=True)
class Launch:
    """A launch as it can be repeated elsewhere: races.py does so."""

    function: Function
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_mem: int
    arrays: list[HostArray | None]  # one for each argument; None: not an array
    numbers: list[bytes]  # likewise


class _Parameter(ctypes.Structure):
    _fields_ = (
        ("pointer", ctypes.c_bool),
        ("constant", ctypes.c_bool),
        ("kind", ctypes.c_char),
        ("size", ctypes.c_uint),
    )

    @property
    def dtype(self) -> str:
        return f"{self.kind.decode()}{self.size}"


class _Kernel(ctypes.Structure):
    _fields_ = (("parameters", ctypes.POINTER(_Parameter)), ("count", ctypes.c_int), ("call", ctypes.c_void_p))


_NAMES = {
    "f4": "float",
    "f8": "double",
    "b1": "bool",
    **{f"{k}{n}": f"{'unsigned ' * (k == 'u')}{c}" for k in "iu" for n, c in ((1, "char"), (2, "short"), (4, "int"))},
    "i8": "long long",
    "u8": "unsigned long long",
    "v0": "void",
}


class RawModule:
    """The kernels of one .cu text."""

    def __init__(
        self, *, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] | None = None
    ) -> None:
        self.code, self.options = code, tuple(options)
        self.names = list(name_expressions or kernel_names(code))
        folders = [option[2:] for option in self.options if option.startswith("-I")]
        self.folders = [Path(folder) for folder in folders]
        self.file = file_name(code, self.folders)
        self._libraries: dict[Path, ctypes.PyDLL] = {}

    def get_function(self, name: str) -> Function:
        if name not in self.names:
            raise SimulatorError(f"{self.file} has no kernel {name!r}: it has {', '.join(self.names)}")
        self.library()  # as CuPy, which compiles now
        return Function(self, name)

    def text(self) -> str:
        """The C++ text, with all planted changes."""
        code = translate(self.code, self.file, self.folders, settings.changes)
        kernels = ", ".join(f"cusim::described<&{name}>()" for name in self.names)
        macros = [option[2:].replace("=", " ", 1) for option in self.options if option.startswith("-D")]
        return "\n".join(
            [
                *(f"#define {macro}" for macro in macros),
                '#include "cuda_words.hpp"',
                '#include "launch.hpp"',
                code,
                f'#line 1 "{self.file}, instantiated"',
                f'extern "C" const cusim::Kernel cusim_kernels[] = {{{kernels}}};\n',
            ]
        )

    def library(self) -> ctypes.PyDLL:
        """The compiled text.  Loaded so that calls keep Python's lock: one launch runs at a time."""
        path = compiler.shared_library(self.text())
        if path not in self._libraries:
            library = ctypes.PyDLL(str(path))
            library.cusim_kernel.restype = ctypes.POINTER(_Kernel)
            self._libraries[path] = library
        return self._libraries[path]


class Function:
    """One kernel, called as CuPy's: function(grid, block, arguments, shared_mem=bytes)."""

    def __init__(self, module: RawModule, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = DYNAMIC_SHARED

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        grid, block = self._sizes(grid, "grid"), self._sizes(block, "block")
        self._check_launch(grid, block, shared_mem)
        library = self.module.library()
        self._check_arguments(library.cusim_kernel(self.index)[0], args)
        arrays = [argument if isinstance(argument, np.ndarray) else None for argument in args]
        numbers = [bytes(8) if argument is None else np.asarray(argument).tobytes() for argument in args]
        if settings.kept is not None:
            copies = [None if array is None else array.copy() for array in arrays]
            settings.kept.append(Launch(self, grid, block, shared_mem, copies, numbers))
        regions = Regions([array for array in arrays if array is not None])
        places = iter(regions.places)
        buffers = [
            ctypes.create_string_buffer(number, max(8, len(number)))
            if array is None
            else _pointer(regions, next(places))
            for array, number in zip(arrays, numbers, strict=True)
        ]
        self._run(library, grid, block, shared_mem, buffers)
        self._check_regions(regions, args)
        regions.copy_back()

    @property
    def index(self) -> int:
        return self.module.names.index(self.name)

    def error(self, what: str) -> SimulatorError:
        return SimulatorError(f"kernel {self.name}: {what}")

    def _sizes(self, sizes: Sequence[int], what: str) -> tuple[int, ...]:
        if not 1 <= len(sizes) <= 3 or not all(isinstance(n, (int, np.integer)) for n in sizes):
            raise self.error(f"the {what} {sizes!r} is not a tuple of one to three ints")
        return (*map(int, sizes), *[1] * (3 - len(sizes)))

    def _check_launch(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> None:
        threads = block[0] * block[1] * block[2]
        if not 1 <= threads <= MOST_THREADS or block[2] > 64:
            raise self.error(f"a block of {threads} threads {block}: 1 to {MOST_THREADS} are allowed, 64 along z")
        if not (1 <= grid[0] <= MOST_GRID_X and all(1 <= n <= MOST_GRID_YZ for n in grid[1:])):
            raise self.error(f"a grid of {grid}: from 1 to {MOST_GRID_X} along x, {MOST_GRID_YZ} along y and z")
        if self.max_dynamic_shared_size_bytes > MOST_DYNAMIC_SHARED:
            raise self.error(f"max_dynamic_shared_size_bytes is over {MOST_DYNAMIC_SHARED}, a GPU's most")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise self.error(
                f"{shared_mem} bytes of dynamic shared memory: {self.max_dynamic_shared_size_bytes} are allowed, "
                f"set max_dynamic_shared_size_bytes for more"
            )

    def _check_arguments(self, kernel: _Kernel, args: Sequence[Any]) -> None:
        if len(args) != kernel.count:
            raise self.error(f"{len(args)} arguments for {kernel.count} parameters")
        for i, argument in enumerate(args):
            parameter = kernel.parameters[i]
            wanted, got = _wanted(parameter), _got(argument)
            if wanted != got and not (parameter.pointer and _matches_any(parameter, argument)):
                raise self.error(f"argument {i} is {got}, the parameter is {wanted}")

    def _run(
        self, library: ctypes.PyDLL, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int, buffers: list[Any]
    ) -> None:
        pointers = (ctypes.c_void_p * len(buffers))(*(ctypes.addressof(buffer) for buffer in buffers))
        message, fault = ctypes.create_string_buffer(1024), ctypes.c_void_p()
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        failed = library.cusim_launch(
            ctypes.c_int(self.index),
            *sizes,
            ctypes.c_size_t(shared_mem),
            ctypes.c_uint(settings.order),
            pointers,
            message,
            ctypes.c_size_t(len(message)),
            ctypes.byref(fault),
        )
        if failed:
            line = f"{line_of(library, fault.value)}: " if fault.value else ""
            raise self.error(f"{line}{message.value.decode()}")

    def _check_regions(self, regions: Regions, args: Sequence[Any]) -> None:
        for region, where in regions.written_outside():
            places = iter(regions.places)
            inside = [next(places) if isinstance(argument, np.ndarray) else None for argument in args]
            named = [f"{i} ({_got(args[i])})" for i, place in enumerate(inside) if place and place.region == region]
            raise self.error(f"writes outside of argument {' and '.join(named)}: {where}")


def _pointer(regions: Regions, place: Any) -> Any:
    return ctypes.c_uint64(0 if place is None else regions.address(place))


def _wanted(parameter: _Parameter) -> str:
    if not parameter.pointer:
        return _NAMES.get(parameter.dtype, f"a struct of {parameter.size} bytes")
    # a struct of 2 bytes is bf16, whose arrays are of uint16
    return f"an array of {_NAMES.get('u2' if parameter.dtype == 's2' else parameter.dtype, parameter.dtype)}"


def _got(argument: Any) -> str:
    if isinstance(argument, np.ndarray):
        name = _NAMES.get(argument.dtype.str[1:], str(argument.dtype))
        return f"an array of {name}"
    if isinstance(argument, np.generic):
        return _NAMES.get(argument.dtype.str[1:], str(argument.dtype))
    if isinstance(argument, bool):
        return "bool"
    if isinstance(argument, int):
        return "long long (a plain int)"  # CuPy passes 8 bytes
    if isinstance(argument, float):
        return "double (a plain float)"
    return "null" if argument is None else type(argument).__name__


def _matches_any(parameter: _Parameter, argument: Any) -> bool:
    null = argument is None or (isinstance(argument, np.unsignedinteger) and argument.nbytes == 8 and not argument)
    return null or (parameter.kind == b"v" and isinstance(argument, np.ndarray))


def line_of(library: ctypes.PyDLL, address: int) -> str:
    """'norm.cu line 31' of an instruction of a loaded library, by addr2line where it is installed."""
    kernel = ctypes.cast(library.cusim_launch, ctypes.c_void_p).value
    symbol = symbol_address(Path(library._name), "cusim_launch")
    if kernel is None or symbol is None or not shutil.which("addr2line"):
        return "somewhere"
    offset = hex(address - kernel + symbol)
    done = subprocess.run(["addr2line", "-i", "-e", library._name, offset], capture_output=True, text=True, check=False)
    places = [line.split(" ")[0].rpartition(":") for line in done.stdout.splitlines()]
    ours = [(file, line) for file, _, line in places if file.endswith((".cu", ".cuh"))]
    return f"{Path(ours[0][0]).name} line {ours[0][1]}" if ours else "somewhere"


def symbol_address(path: Path, name: str) -> int | None:
    """A symbol's address in a library's file, by nm; None where it is not installed."""
    if not shutil.which("nm"):
        return None
    done = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=False)
    found = [line.split() for line in done.stdout.splitlines() if line.endswith(f" {name}")]
    return int(found[0][0], 16) if found else None
