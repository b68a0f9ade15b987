"""A kernel's parameters against a launch's arguments, which CuPy passes without a look."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class Parameter(ctypes.Structure):
    """launch.hpp's Parameter."""

    _fields_ = (
        ("pointer", ctypes.c_bool),
        ("constant", ctypes.c_bool),
        ("kind", ctypes.c_char),
        ("size", ctypes.c_uint),
    )


class Kernel(ctypes.Structure):
    """launch.hpp's Kernel."""

    _fields_ = (("parameters", ctypes.POINTER(Parameter)), ("count", ctypes.c_int), ("call", ctypes.c_void_p))


_INTEGERS = {1: "char", 2: "short", 4: "int", 8: "long long"}
_NAMES = {"f4": "float", "f8": "double", "b1": "bool", "v0": "any type"}
_NAMES |= {f"i{size}": name for size, name in _INTEGERS.items()}
_NAMES |= {f"u{size}": f"unsigned {name}" for size, name in _INTEGERS.items()}
_NAMES |= {"s2": "bfloat16"}  # the kernels' only struct of 2 bytes


def mismatch(kernel: Kernel, args: Any) -> str | None:
    """Say what is wrong with the arguments; None if they are the parameters' types."""
    if len(args) != kernel.count:
        return f"{len(args)} arguments for {kernel.count} parameters"
    for i, argument in enumerate(args):
        parameter = kernel.parameters[i]
        wanted, got = wanted_type(parameter), type_of(argument)
        if wanted != got and not (parameter.pointer and fits_any_pointer(parameter, argument)):
            return f"argument {i} is {got}, its parameter {wanted}"
    return None


def wanted_type(parameter: Parameter) -> str:
    dtype = f"{parameter.kind.decode()}{parameter.size}"
    if parameter.pointer:
        return f"an array of {_NAMES.get(dtype, f'structs of {parameter.size} bytes')}"
    return f"a struct of {parameter.size} bytes" if parameter.kind == b"s" else _NAMES[dtype]


def type_of(argument: Any) -> str:
    if isinstance(argument, (np.ndarray, np.generic)):
        name = _NAMES.get(argument.dtype.str[1:], str(argument.dtype))
        return f"an array of {name}" if isinstance(argument, np.ndarray) else name
    if isinstance(argument, bool):
        return "bool"
    if isinstance(argument, int):
        return "a plain int, which arrives as long long"
    if isinstance(argument, float):
        return "a plain float, which arrives as double"
    return "null" if argument is None else f"a {type(argument).__name__}"


def fits_any_pointer(parameter: Parameter, argument: Any) -> bool:
    """Whether the argument is null, None or numpy.uintp(0), or an array for a void pointer."""
    if isinstance(argument, np.ndarray):
        return parameter.kind == b"v"
    return argument is None or (isinstance(argument, np.uintp) and int(argument) == 0)
