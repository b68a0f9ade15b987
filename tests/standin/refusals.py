"""Checks for arguments that CuPy refuses, or accepts and computes wrongly, before NumPy gets them.

CuPy 14.2 was asked, call by call: calls.py has the calls, cupy_calls.json the answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .api import Entry
from .memory import DTYPES

# A device array is known by its `_host`: the module that it comes from needs this one.

SCALARS = {
    bool,
    int,
    float,
    complex,
    *(np.dtype(char).type for char in DTYPES if char != "E"),
}  # and not their subclasses
TAKES_HOST_ARRAYS = {"can_cast", "iscomplexobj", "isrealobj", "isscalar", "ndim", "result_type", "shape"}
HOST_PARAMETERS = {"axis", "axes", "indices_or_sections", "k", "newshape", "pad_width", "reps", "shape", "shift"}
REDUCTIONS = {
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
}
FILLS_OUT_AT_LAST = {"clip", "concat", "concatenate", "cumprod", "cumsum", "dot", "round", "stack"}

# A number or a list where an array belongs: ...
TAKES_PLAIN = {"allclose", "append", "around", "atleast_1d", "atleast_2d", "atleast_3d", "average", "broadcast_arrays"}
TAKES_PLAIN |= {"angle", "cross", "diff", "gradient", "imag", "iscomplex", "isclose", "isneginf", "isposinf", "isreal"}
TAKES_PLAIN |= {"dstack", "hstack", "kron", "nan_to_num", "real", "require", "round", "row_stack", "tile", "unwrap"}
TAKES_PLAIN |= {"diag", "tril", "triu", "vstack"}  # ... all these make an array of it, or a scalar of a kernel's
NO_ARRAY_FIRST = {"apply_along_axis", "apply_over_axes", "bartlett", "base_repr", "binary_repr", "blackman", "einsum"}
NO_ARRAY_FIRST |= {"diag_indices", "eye", "hamming", "hanning", "identity", "indices", "kaiser", "linspace", "logspace"}
NO_ARRAY_FIRST |= {"mask_indices", "ones", "select", "tri", "tril_indices", "triu_indices", "zeros"}
TYPED = {"all", "any", "argwhere", "array_split", "ascontiguousarray", "asfortranarray", "broadcast_to", "column_stack"}
TYPED |= {"concat", "concatenate", "count_nonzero", "cumprod", "cumsum", "expand_dims", "flatnonzero", "median"}
TYPED |= {"moveaxis", "nanmax", "nanmin", "nanprod", "nansum", "nonzero", "putmask", "rollaxis", "size", "stack"}
TYPED |= {"trapezoid"}  # a TypeError of Cython's or of check_array(); others have an AttributeError
SEQUENCES = {"column_stack", "concat", "concatenate", "stack"}
PAIRS = {"array_equal", "dot", "inner", "outer", "tensordot", "vdot"}


def is_device_array(value: Any) -> bool:
    return hasattr(value, "_host")


def check_arguments(name: str, entry: Entry, bound: dict[str, Any]) -> None:
    """Check the arguments as one of CuPy's functions does before any kernel runs."""
    if name not in TAKES_HOST_ARRAYS | TAKES_PLAIN | NO_ARRAY_FIRST:
        for value, typed in arrays_of(name, entry, bound):
            refuse_plain(name, value, typed)
    refuse_device_parameters(f"cupy.{name}", bound)
    refuse_overlap(name, bound.get("out"), bound.values())
    refuse_axis_of_a_scalar(name, bound.get("a"), bound.get("axis"))
    if name == "concatenate" and any(is_device_array(item) and not item.ndim for item in bound["tup"]):
        raise TypeError("zero-dimensional arrays cannot be concatenated")


def arrays_of(name: str, entry: Entry, bound: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """The arguments that have to be arrays, the first one or its items and in PAIRS the second; and is it typed?"""
    if entry.signature is None:
        return
    first, *others = entry.signature.parameters.values()
    value = bound.get(first.name)
    flattens = name in SEQUENCES and "axis" in bound and bound["axis"] is None  # calls ravel() of each
    has_items = first.kind is inspect.Parameter.VAR_POSITIONAL or name in SEQUENCES
    for item in value if has_items and isinstance(value, (list, tuple)) else [value]:
        yield item, name in TYPED and not flattens
    if name in PAIRS:
        yield bound.get(others[0].name), name == "dot"


def refuse_plain(name: str, value: Any, typed: bool) -> None:
    """Raise what CuPy raises for a number or a list in place of an array; unwrap() refuses NumPy's arrays.

    Of a NumPy scalar CuPy would return the scalar's own method's result, which is none on the device: refused too.
    """
    if is_device_array(value) or isinstance(value, np.ndarray):
        return
    if typed:
        raise TypeError(f"cupy.{name}: expected a cupy.ndarray, got {type(value).__name__}")
    raise AttributeError(f"cupy.{name}: {type(value).__name__!r} object has not the attributes of a cupy.ndarray")


def refuse_unsupported(value: Any) -> None:
    """_preprocess_arg() of CuPy's kernels takes device arrays and plain scalars, no lists and no host arrays."""
    if not is_device_array(value) and type(value) not in SCALARS:
        raise TypeError(f"Unsupported type {type(value)}")


def refuse_host_array(value: Any, verb: str) -> None:
    if isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value):
        raise ValueError(f"non-scalar numpy.ndarray cannot be used for {verb}")


def refuse_device_parameters(name: str, bound: dict[str, Any]) -> None:
    """Refuse device arrays for parameters that CuPy needs to know on the host."""
    for parameter in HOST_PARAMETERS & bound.keys():
        value = bound[parameter]
        if any(is_device_array(item) for item in (value if isinstance(value, (list, tuple)) else [value])):
            raise TypeError(f"{name}: 'ndarray' object cannot be interpreted as an integer ({parameter})")


def refuse_axis_of_a_scalar(name: str, array: Any, axis: Any) -> None:
    """_get_axis() of CuPy's reductions: an array of no axes has not even axis 0, as it has in NumPy's sum()."""
    if name in REDUCTIONS and is_device_array(array) and not array._host.ndim and axis not in (None, ()):
        raise np.exceptions.AxisError(f"axis {axis} is out of bounds for array of dimension 0")


def refuse_overlap(name: str, out: Any, inputs: Iterable[Any]) -> None:
    """Reductions (_AbstractReductionKernel._call) and take() write into `out` while other threads read the input.

    Others may overlap: a ufunc copies such an input (_copy_in_args_if_needed), a product its result, and a cumulative
    sum works in its `out`.
    """
    if not is_device_array(out) or name in FILLS_OUT_AT_LAST:
        return
    for value in inputs:
        if is_device_array(value) and value is not out and np.shares_memory(value._host, out._host):
            raise RuntimeError(f"cupy.{name}: out overlaps an input that CuPy still reads: the result is undefined")


def refuse_overlap_of_values(host: Any, values: Any) -> None:
    """_scatter_op_single() and _scatter_op_mask_single() read values where they lie, while other threads write."""
    if isinstance(values, np.ndarray) and values.dtype == host.dtype and np.shares_memory(host, values):
        raise RuntimeError("the assigned values overlap the array, which CuPy writes while it reads; assign a copy")


def refuse_overlapping_copy(target: Any, values: Any) -> None:
    """_scatter_op() copies contiguous arrays of one dtype by cudaMemcpy, which is undefined where the two overlap.

    Others go through a ufunc, which copies an input that overlaps its output.
    """
    alike = (target.shape, target.strides, target.dtype) == (values.shape, values.strides, values.dtype)
    same_place = target.ctypes.data == values.ctypes.data
    if alike and not same_place and target.flags.c_contiguous and np.shares_memory(target, values):
        raise RuntimeError("the assigned values overlap their place, which CuPy copies by cudaMemcpy; assign a copy")
