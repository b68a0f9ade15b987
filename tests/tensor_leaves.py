"""Leaves for the tests of Tensor: positive numbers, which have logs, roots and powers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanograd_gpt.tensor import Tensor

X = np.array([[0.5, 1.5, 0.7], [2.0, 0.1, 1.0]])


def leaf(values: Any = X, dtype: Any = None) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)
