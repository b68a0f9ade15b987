"""NVRTC, called through ctypes: machine code of CUDA C++ for an architecture, on a machine with or without a GPU.

The library is that of the wheel nvidia-cuda-nvrtc, which the extra `cuda-test` pins, since the registers a kernel takes
differ from compiler to compiler.  Options are those that CuPy's RawModule adds to ours (cupy/cuda/compiler.py), so that
the code measured here is the code that runs.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

DISTRIBUTION = "nvidia-cuda-nvrtc"
NVRTC = re.compile(r"libnvrtc\.so\.\d+")
BUILTINS = re.compile(r"libnvrtc-builtins\.so\.[\d.]+")
ARCHITECTURES = ("sm_80", "sm_90")
OPTIONS = ("--std=c++17",)  # backend/cuda's own, beside the include folder
CUPYS_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")

FILE_REGISTERS = 65536  # of 32 bits, for all threads of a multiprocessor
THREAD_REGISTERS = 255
LARGEST_BLOCK = 1024
STATIC_SHARED = 48 * 1024

WARNING = re.compile(r"^(?:\S+\(\d+\): warning|ptxas warning).*", re.MULTILINE)
FUNCTION = re.compile(r"Function properties for (\w+)\n(.*?)(?=Compiling entry|Function properties|\Z)", re.DOTALL)
ENTRY = re.compile(r"\.entry (\w+)\(.*?\)(.*?)\{", re.DOTALL)  # of PTX: name, parameters, directives


class CompileError(Exception):
    """The compiler's log of a source that it refuses."""


class LocalMemory(NamedTuple):
    """Bytes a thread keeps in memory because registers cannot hold them."""

    stack: int  # arrays indexed at run time, and spills
    spill_stores: int
    spill_loads: int

    def __str__(self) -> str:
        return f"{self.stack} bytes of stack, {self.spill_stores} of spill stores, {self.spill_loads} of spill loads"


class Kernel(NamedTuple):
    """Resources of a kernel, and the bounds it declares."""

    registers: int
    local: LocalMemory
    shared: int  # bytes of static shared memory
    threads: int | None  # __launch_bounds__: the most a block has
    blocks: int  # __launch_bounds__: the fewest that are to fit a multiprocessor

    @property
    def ceiling(self) -> int:
        """The most registers with which it can be launched as declared; without bounds, by any block.

        A warp gets registers in units of 256, 8 a thread.
        """
        threads = -(-(self.threads or LARGEST_BLOCK) // 32) * 32 * self.blocks
        return min(THREAD_REGISTERS, FILE_REGISTERS // threads // 8 * 8)


class Compiled(NamedTuple):
    """Machine code and what the compiler says of it."""

    architecture: str
    cubin: bytes
    kernels: dict[str, Kernel]  # by name expression, or by the name in the machine code where it has none
    called: dict[str, LocalMemory]  # device functions that are not inlined
    warnings: list[str]

    def findings(self) -> list[str]:
        """Faults, a line each: local memory, registers or shared memory beyond the ceiling, warnings."""
        functions = {name: kernel.local for name, kernel in self.kernels.items()} | self.called
        local = [f"{name}: {local}" for name, local in functions.items() if any(local)]
        registers = [
            f"{name}: {k.registers} registers, {k.ceiling} is the most for {k.threads or LARGEST_BLOCK} threads a block"
            f" and {k.blocks} blocks" + ("" if k.threads else ", as it declares no __launch_bounds__")
            for name, k in self.kernels.items()
            if k.registers > k.ceiling
        ]
        shared = [f"{name}: {k.shared} bytes of static shared memory" for name, k in self.kernels.items()]
        large = [text for text, k in zip(shared, self.kernels.values(), strict=True) if k.shared > STATIC_SHARED]
        return local + registers + large + self.warnings


# --- the library


def version() -> str:
    """The version of the compiler's wheel, as "13.0.88"."""
    return metadata.version(DISTRIBUTION)


@functools.cache
def _library() -> ctypes.CDLL:
    ctypes.CDLL(str(_file(BUILTINS)))  # NVRTC opens it by its name, which finds it only where it is loaded already
    return ctypes.CDLL(str(_file(NVRTC)))


def _file(name: re.Pattern[str]) -> Path:
    distribution = metadata.distribution(DISTRIBUTION)
    for file in distribution.files or ():
        if name.fullmatch(file.name):
            return Path(str(distribution.locate_file(file)))
    raise FileNotFoundError(f"{DISTRIBUTION} {distribution.version} has no file {name.pattern}")


def absence() -> str | None:
    """The reason why this machine has no NVRTC, or None.  It is not loaded yet, only looked for."""
    try:
        _file(NVRTC), _file(BUILTINS)
    except metadata.PackageNotFoundError:
        return f"needs NVRTC of the wheel {DISTRIBUTION}: pip install -e '.[cuda-test]'"
    except FileNotFoundError as error:
        return str(error)
    return None


needs_nvrtc = pytest.mark.skipif(absence() is not None, reason=str(absence()))


# --- compiling


def compile_text(
    text: str, names: Sequence[str], architecture: str, *, file: str = "kernel.cu", include: Path | None = None
) -> Compiled:
    """Compile CUDA C++ for an architecture, "sm_90".

    names are the kernels, templates with their arguments: "adamw<float>"; `extern "C"` ones may be left out.  file is
    the name that messages give.  Raises CompileError with the compiler's log.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), file.encode(), 0, None, None))
    try:
        for name in names:
            _check(nvrtc.nvrtcAddNameExpression(program, name.encode()))
        folder = [f"-I{include}"] if include else []
        options = [*OPTIONS, *folder, *CUPYS_OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        refused = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
        log = _result(program, "ProgramLog").rstrip(b"\0").decode()
        if refused:
            raise CompileError(log)
        expressions = {_lowered(program, name): name for name in names}
        ptx = _result(program, "PTX").rstrip(b"\0").decode()
        kernels, called = _functions(log, ptx, expressions)
        return Compiled(architecture, _result(program, "CUBIN"), kernels, called, WARNING.findall(log))
    finally:
        _check(nvrtc.nvrtcDestroyProgram(ctypes.byref(program)))


def _check(code: int) -> None:
    if code:
        describe = _library().nvrtcGetErrorString
        describe.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC: {describe(code).decode()}")


def _result(program: ctypes.c_void_p, what: str) -> bytes:
    nvrtc, size = _library(), ctypes.c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    data = ctypes.create_string_buffer(size.value)
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, data))
    return data.raw


def _lowered(program: ctypes.c_void_p, name: str) -> str:
    lowered = ctypes.c_char_p()
    _check(_library().nvrtcGetLoweredName(program, name.encode(), ctypes.byref(lowered)))
    assert lowered.value is not None
    return lowered.value.decode()


# --- reading what the compiler says


def _functions(log: str, ptx: str, expressions: dict[str, str]) -> tuple[dict[str, Kernel], dict[str, LocalMemory]]:
    """Kernels by expression, and device functions by lowered name."""
    bounds = dict(_bounds(ptx))
    kernels, called = {}, {}
    for lowered, text in FUNCTION.findall(log):
        spills = (_number(rf"(\d+) bytes {what}", text) for what in ("stack frame", "spill stores", "spill loads"))
        local = LocalMemory(*spills)
        if lowered not in bounds:
            called[lowered] = local
            continue
        whole_stack = _number(r"(\d+) bytes cumulative stack size", text, local.stack)
        kernels[expressions.get(lowered, lowered)] = Kernel(
            _number(r"Used (\d+) registers", text),
            local._replace(stack=whole_stack),
            _number(r"(\d+) bytes smem", text, 0),
            *bounds[lowered],
        )
    unseen = bounds.keys() - {name for name, _ in FUNCTION.findall(log)}
    if unseen:
        raise RuntimeError(f"NVRTC's log does not tell of {', '.join(sorted(unseen))}:\n{log}")
    return kernels, called


def _number(pattern: str, text: str, default: int | None = None) -> int:
    found = re.search(pattern, text)
    if found is None and default is None:
        raise RuntimeError(f"NVRTC's log has no {pattern!r}:\n{text}")
    return int(found[1]) if found else default


def _bounds(ptx: str) -> Iterator[tuple[str, tuple[int | None, int]]]:
    """__launch_bounds__ of each kernel, with the values of its template's arguments: (threads, blocks)."""
    for name, directives in ENTRY.findall(ptx):
        threads = re.search(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?", directives)
        blocks = re.search(r"\.minnctapersm (\d+)", directives)
        x, y, z = (int(n or 1) for n in threads.groups()) if threads else (0, 0, 0)
        yield name, (x * y * z or None, int(blocks[1]) if blocks else 1)
