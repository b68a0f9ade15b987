"""Leaves for tests of the backward pass, with or without a buffer for the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Leaf
from nanograd_gpt.tensor import Tensor

X = np.array([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]])

Loss = Callable[..., Tensor]


def leaf(values: Any = X, buffer: bool = False) -> Tensor:
    """A leaf with its own array, and optionally a buffer for its gradient, filled with nan."""
    tensor = Tensor(np.array(values), requires_grad=True)
    if buffer:
        assert isinstance(tensor.node, Leaf)
        tensor.node.buffer = np.full(tensor.shape, np.nan)
    return tensor
