"""cupy.RawModule and the kernels that it gives, run by the simulator in tests/cusim.

Stricter than CuPy, which passes what it gets: an argument has to be of the parameter's type, a host array is refused,
and so is an empty grid, of which CuPy runs one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cusim import simulator

from .capture import queued
from .device_array import DeviceArray
from .record import record

NOT_EMULATED = ("path", "translate_cucomplex", "enable_cooperative_groups", "jitify")


class RawKernel:
    """One kernel of a RawModule; the only one of its attributes that can be set sets how much it may share."""

    def __init__(self, function: simulator.Function) -> None:
        self._function = function

    @property
    def name(self) -> str:
        return self._function.name

    @property
    def kernel(self) -> RawKernel:
        """The kernel as the driver has it: CuPy's is called in the same way."""
        return self

    @property
    def code(self) -> str:
        return self._function.module.code

    @property
    def options(self) -> tuple[str, ...]:
        return self._function.module.options

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._function.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        self._function.max_dynamic_shared_size_bytes = value

    @queued
    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0, stream: Any = None
    ) -> None:
        for sizes in (grid, block):
            if not isinstance(sizes, tuple):
                raise TypeError(f"Expected tuple, got {type(sizes).__name__}")
        record.need_device()
        self._function(grid, block, [passed(argument) for argument in args], shared_mem=shared_mem)
        record.launches.append(self.name)


class RawModule:
    """The kernels of a .cu text."""

    def __init__(
        self,
        *,
        code: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Sequence[str] | None = None,
        **others: Any,
    ) -> None:
        if unknown := others.keys() - {*NOT_EMULATED}:
            raise TypeError(f"RawModule() got an unexpected keyword argument {min(unknown)!r}")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
        if code is None or backend != "nvrtc" or any(others.values()):
            raise NotImplementedError("the stand-in makes modules of a text only, as by NVRTC")
        self._module = simulator.RawModule(code=code, options=options, name_expressions=name_expressions)

    @property
    def code(self) -> str:
        return self._module.code

    @property
    def options(self) -> tuple[str, ...]:
        return self._module.options

    @property
    def name_expressions(self) -> tuple[str, ...]:
        return tuple(self._module.names)

    def compile(self, log_stream: Any = None) -> None:
        record.need_device()
        self._module.library()

    def get_function(self, name: str) -> RawKernel:
        record.need_device()
        return RawKernel(self._module.get_function(name))


def passed(argument: Any) -> Any:
    """An argument as the simulator takes it: of a device array, the host's array that holds its values."""
    if isinstance(argument, DeviceArray):
        return argument._host
    if isinstance(argument, np.ndarray):
        raise TypeError(
            f"You are trying to pass a numpy.ndarray of shape {argument.shape} as a kernel parameter; pass a "
            f"cupy.ndarray, or a scalar of NumPy's"
        )
    return argument
