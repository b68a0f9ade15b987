"""CuPy's rules for x[key]: array indices wrap around, masks make the host wait, indices from the host are uploaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .record import record
from .refusals import refuse_overlap_of_values, refuse_overlapping_copy

HostArray = npt.NDArray[Any]

# A device array is known by its `_host`: the module that it comes from needs this one.


def get(host: HostArray, key: Any) -> Any:
    """x[key]: a view for slices and integers, also of one element, and a copy for arrays, 0-d ones too."""
    at = host_key(key, host.shape)
    if is_advanced(key):
        return np.asarray(host[at]).copy()
    return host[at] if any(item is Ellipsis for item in at) else host[(*at, ...)]


def put(host: HostArray, key: Any, value: Any) -> None:
    """x[key] = value"""
    at = host_key(key, host.shape)
    if is_advanced(key):
        refuse_overlap_of_values(host, value)
        if np.ndim(value):
            refuse_repeats(host.shape, at)
    elif isinstance(value, np.ndarray):
        refuse_overlapping_copy(get(host, key), value)
    host[at] = value


def is_advanced(key: Any) -> bool:
    """Whether an array, list or bool is among the indices."""
    items = key if isinstance(key, tuple) else (key,)
    return any(isinstance(item, (list, bool, np.bool_, np.ndarray)) or hasattr(item, "_host") for item in items)


def host_key(key: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The key for NumPy, with every integer array taken modulo the length of its axis, as CuPy's kernels do."""
    items = [host_item(item) for item in (key if isinstance(key, tuple) else (key,))]
    axis, covered = 0, sum(axes_of(item) for item in items)
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray) and item.dtype != bool and axis < len(shape) and shape[axis]:
            items[i] = item.astype(np.int64) % shape[axis]
        axis += max(0, len(shape) - covered) if item is Ellipsis else axes_of(item)
    return tuple(items)


def host_item(item: Any) -> Any:
    if isinstance(item, slice):
        return slice(*(bound(b) for b in (item.start, item.stop, item.step)))
    if isinstance(item, (bool, np.bool_)):
        record.sync("mask index")
        return np.asarray(item)
    if isinstance(item, (list, np.ndarray)) or hasattr(item, "_host"):
        index = host_index(item)
        if index.dtype == bool:
            record.sync("mask index")
        return index
    return item


def host_index(index: Any) -> HostArray:
    """The host's side of an index array; one that was on the host is noted as an upload."""
    if hasattr(index, "_host"):
        array = np.asarray(index._host)
    else:
        is_empty_list = isinstance(index, (list, tuple)) and not np.size(index)  # and no mask
        array = np.asarray(index, np.int32 if is_empty_list else None)
        record.upload(f"index {array.dtype}{list(array.shape)}")
    if array.dtype.kind not in "biu":
        raise IndexError(f"arrays used as indices must be of integer or boolean type. (actual: {array.dtype.type})")
    return array


def bound(value: Any) -> Any:
    """A slice's end: one that is on the device is waited for."""
    if not hasattr(value, "_host"):
        return value
    record.sync("slice bound")
    return int(value._host)


def axes_of(item: Any) -> int:
    """The number of the array's axes that one index uses up."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == bool else 1


def refuse_repeats(shape: tuple[int, ...], key: tuple[Any, ...]) -> None:
    """CuPy leaves open which of several values for one place is kept: a test must not depend on it."""
    places = np.arange(np.prod(shape, dtype=int)).reshape(shape)[key]
    if np.unique(places).size != places.size:
        raise RuntimeError("repeated indices in an assignment: which value CuPy keeps is undefined; use add.at to sum")
