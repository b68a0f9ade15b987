"""Leaves for the tests of the walk back, with or without a buffer for the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Leaf
from nanograd_gpt.tensor import Tensor

X = np.array([[0.3, -1.2, 0.7], [2.0, 0.1, -0.4]])

Loss = Callable[..., Tensor]


def leaf(values: Any = X, buffer: bool = False) -> Tensor:
    """A leaf with an array of its own; with a buffer for its gradient, which holds rubbish."""
    tensor = Tensor(np.array(values), requires_grad=True)
    if buffer:
        assert isinstance(tensor.node, Leaf)
        tensor.node.buffer = np.full(tensor.shape, np.nan)
    return tensor
