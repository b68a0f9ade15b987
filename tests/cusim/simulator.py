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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import compiler
from .arguments import Kernel, mismatch, type_of
from .errors import SimulatorError
from .memory import HostArray, Regions, Wall
from .symbols import line_of
from .translate import Changes, file_name, kernel_names, launch_bounds, translate

MOST_THREADS, MOST_BLOCK_Z, MOST_GRID_X, MOST_GRID_YZ = 1024, 64, 2**31 - 1, 65535
DYNAMIC_SHARED, MOST_DYNAMIC_SHARED = 48 << 10, 227 << 10  # without and with max_dynamic_shared_size_bytes

MOST_SECONDS = 60  # of the processor's time, for a launch
OUTSIDE = "outside of all memory"  # of the runtime's message

IN_ORDER, REVERSED, SHUFFLED = 0, 1, 2  # the orders in which threads and blocks run; from 2 on, seeds


@dataclass
class Settings:
    """The thread order, the changed texts, and the list that keeps launches: the same for all modules."""

    order: int = IN_ORDER
    changes: Changes = field(default_factory=dict)
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
    """A launch, which can be repeated elsewhere: races.py does so."""

    function: Function
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_mem: int
    args: list[Any]
    before: Regions | None = None  # the arrays' values before it, of one that is kept

    @property
    def array_numbers(self) -> list[int]:
        return [i for i, argument in enumerate(self.args) if isinstance(argument, np.ndarray)]

    @property
    def arrays(self) -> list[HostArray]:
        return [self.args[i] for i in self.array_numbers]

    def values(self, regions: Regions) -> list[bytes]:
        """The arguments' 8 bytes, of an array its address among the regions."""
        addresses = map(regions.address, regions.places)
        return [
            next(addresses).to_bytes(8, "little") if isinstance(argument, np.ndarray) else number(argument)
            for argument in self.args
        ]


@dataclass(frozen=True)
class Failure:
    """A launch's failure, and the line of the .cu if the message does not have it."""

    message: str
    line: str | None

    def __str__(self) -> str:
        return f"{self.line}: {self.message}" if self.line else self.message


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
        self.bounds = launch_bounds(code)
        self._libraries: dict[frozenset[tuple[str, str]], ctypes.PyDLL] = {}  # by the changes to the text

    def get_function(self, name: str) -> Function:
        if name not in self.names:
            raise SimulatorError(f"{self.file} has no kernel {name!r}: it has {', '.join(self.names)}")
        self.library()  # as CuPy, which compiles now
        return Function(self, name)

    def text(self) -> str:
        """The C++ text, with all planted changes."""
        code = translate(self.code, self.file, self.folders, settings.changes)
        kernels = ", ".join(f"cusim::described<&{name}>()" for name in self.names)
        macros = [option[2:].partition("=") for option in self.options if option.startswith("-D")]
        return "\n".join(
            [
                '#include "cuda_words.hpp"',
                '#include "launch.hpp"',
                *(f"#define {name} {value if sign else 1}" for name, sign, value in macros),
                code,
                f'#line 1 "{self.file}, instantiated"',
                f'extern "C" const cusim::Kernel cusim_kernels[] = {{{kernels}}};\n',
            ]
        )

    def library(self) -> ctypes.PyDLL:
        """The compiled text.  Loaded so that calls keep Python's lock: one launch runs at a time."""
        changes = frozenset(settings.changes.items())
        if changes not in self._libraries:
            library = ctypes.PyDLL(str(compiler.shared_library(self.text())))
            library.cusim_kernel.restype = ctypes.POINTER(Kernel)
            self._libraries[changes] = library
        return self._libraries[changes]


class Function:
    """One kernel, called as CuPy's: function(grid, block, arguments, shared_mem=bytes)."""

    def __init__(self, module: RawModule, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = DYNAMIC_SHARED

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        grid, block = self._sizes(grid, "grid"), self._sizes(block, "block")
        self._check_launch(grid, block, shared_mem)
        library = self.module.library()
        if what := mismatch(library.cusim_kernel(self.index)[0], args):
            raise self.error(what)
        launch = Launch(self, grid, block, shared_mem, list(args))
        if settings.kept is not None:
            settings.kept.append(replace(launch, before=Regions(launch.arrays)))
        regions = Regions(launch.arrays)
        if failure := self._run(library, launch, regions):
            raise self.error(str(failure))
        self._check_margins(library, launch, regions)
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
        if not 1 <= threads <= MOST_THREADS or block[2] > MOST_BLOCK_Z:
            raise self.error(f"a block of {block}: 1 to {MOST_THREADS} threads are allowed, {MOST_BLOCK_Z} along z")
        bound = self.module.bounds.get(self.name.partition("<")[0], MOST_THREADS)
        if threads > bound:
            raise self.error(f"a block of {threads} threads, over its __launch_bounds__, {bound}")
        if not (1 <= grid[0] <= MOST_GRID_X and all(1 <= n <= MOST_GRID_YZ for n in grid[1:])):
            raise self.error(f"a grid of {grid}: from 1 to {MOST_GRID_X} along x, {MOST_GRID_YZ} along y and z")
        if self.max_dynamic_shared_size_bytes > MOST_DYNAMIC_SHARED:
            raise self.error(f"max_dynamic_shared_size_bytes is over {MOST_DYNAMIC_SHARED}, a GPU's most")
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise self.error(
                f"{shared_mem} bytes of dynamic shared memory: {self.max_dynamic_shared_size_bytes} are allowed, "
                f"set max_dynamic_shared_size_bytes for more"
            )

    def _run(self, library: ctypes.PyDLL, launch: Launch, regions: Regions) -> Failure | None:
        buffers = [ctypes.create_string_buffer(value, 8) for value in launch.values(regions)]
        pointers = (ctypes.c_void_p * len(buffers))(*(ctypes.addressof(buffer) for buffer in buffers))
        message, fault = ctypes.create_string_buffer(1024), ctypes.c_void_p()
        failed = library.cusim_launch(
            ctypes.c_int(self.index),
            (ctypes.c_uint * 3)(*launch.grid),
            (ctypes.c_uint * 3)(*launch.block),
            ctypes.c_size_t(launch.shared_mem),
            ctypes.c_uint(settings.order),
            ctypes.c_int(MOST_SECONDS),
            pointers,
            message,
            ctypes.c_size_t(len(message)),
            ctypes.byref(fault),
        )
        if not failed:
            return None
        return Failure(message.value.decode(), line_of(library, fault.value) if fault.value else None)

    def _check_margins(self, library: ctypes.PyDLL, launch: Launch, regions: Regions) -> None:
        for region, copy in enumerate(regions.copies):
            after, before = copy.written_after(), copy.written_before()
            if after is None and before is None:
                continue
            where = f"byte {before} before its beginning" if after is None else f"byte {after} after its end"
            line = self._line_outside(library, launch, region, after is not None)
            pairs = zip(launch.array_numbers, launch.arrays, regions.places, strict=True)
            named = [f"{i}, {type_of(array)}" for i, array, place in pairs if place and place.region == region]
            raise self.error(str(Failure(f"a write outside of argument {' and '.join(named)}: {where}", line)))

    def _line_outside(self, library: ctypes.PyDLL, launch: Launch, region: int, after: bool) -> str | None:
        """The line that goes out of a region, found by the same launch with a wall there; None if it is not found."""
        size = Regions(launch.arrays).copies[region].size
        for gap in (0, -size % 16):  # 16 bytes at once may need the gap to be aligned
            failure = self._run(library, launch, Regions(launch.arrays, Wall(region, after, gap if after else 0)))
            if failure and failure.line and OUTSIDE in failure.message:
                return failure.line
        return None


def number(argument: Any) -> bytes:
    """The bytes of an argument that is not an array, with zeros behind; of None, null."""
    value = b"" if argument is None else np.asarray(argument).tobytes()
    return value.ljust(8, b"\0")
