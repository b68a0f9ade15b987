"""Token ids as users give them, and as operations take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from ..backend.contract import Ints
from ..tensor import Tensor

TokenIds: TypeAlias = Ints | Tensor | Sequence[Any] | int  # an array, a Tensor of integers, or a nested list


def as_ids(ids: TokenIds) -> Ints:
    """Token ids as an array, for use as an operation's parameter.  Raises TypeError for a text."""
    if isinstance(ids, str):
        raise TypeError("expected token ids, got a text; encode it first: text_to_token_ids(text, tokenizer)")
    given = ids.data if isinstance(ids, Tensor) else ids
    array = np.asarray(given) if isinstance(given, list | tuple | int) else cast("Ints", given)
    return array if array.size else array.astype(np.int64)  # np.asarray([]) is float64
