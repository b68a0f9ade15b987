"""Layers, with PyTorch's names and default initialisation.

`rng` is the random stream for initial weights or dropout masks; without one, the seed comes from the operating system
and every run differs.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ..arguments import dropout_rate, whole_number
from ..backend.contract import Array, Ints, Keep
from ..backend.select import kernels_of
from ..pytorch_names import DROPOUT, EMBEDDING, LAYER_NORM, LINEAR, without_keywords
from ..rng import Generator, RandomStream, checked_stream
from ..tensor import Tensor, as_tensor
from . import functional as F
from .module import Module, Parameter


class Linear(Module):
    """y = x W^T + b; weights and bias start uniform in +-1 / sqrt(d_in).

    x (..., d_in)  ->  (..., d_out)
    """

    @without_keywords(LINEAR)
    def __init__(self, d_in: int, d_out: int, bias: bool = True, *, rng: RandomStream | None = None) -> None:
        d_in, d_out = whole_number("d_in", d_in, 1), whole_number("d_out", d_out, 0)
        bound, rng = 1 / sqrt(d_in), Generator.unseeded() if rng is None else checked_stream(rng)
        self.weight = Parameter(rng.uniform((d_out, d_in), -bound, bound))
        self.bias = Parameter(rng.uniform((d_out,), -bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        d_out, d_in = self.weight.shape
        return f"d_in={d_in}, d_out={d_out}, bias={self.bias is not None}"


class Embedding(Module):
    """Lookup table of vectors, which start from N(0, 1).

    ids (...)  ->  (..., C)
    """

    @without_keywords(EMBEDDING)
    def __init__(self, n_vectors: int, emb_dim: int, *, rng: RandomStream | None = None) -> None:
        shape = whole_number("n_vectors", n_vectors, 0), whole_number("emb_dim", emb_dim, 0)
        rng = Generator.unseeded() if rng is None else checked_stream(rng)
        self.weight = Parameter(rng.normal(shape), by_rows=True)

    def forward(self, ids: Ints, *, checked: bool = False) -> Tensor:
        return F.embedding(ids, self.weight, checked=checked)

    def extra_repr(self) -> str:
        n_vectors, emb_dim = self.weight.shape
        return f"{n_vectors}, {emb_dim}"


class LayerNorm(Module):
    """Normalise to mean 0 and variance 1 over the last axis, then scale and shift.

    x (..., C)  ->  (..., C)
    """

    @without_keywords(LAYER_NORM)
    def __init__(self, emb_dim: int) -> None:
        emb_dim = whole_number("emb_dim", emb_dim, 0)
        self.eps = 1e-5
        self.scale = Parameter(np.ones(emb_dim, dtype=np.float32))
        self.shift = Parameter(np.zeros(emb_dim, dtype=np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.scale, self.shift, self.eps)

    def extra_repr(self) -> str:
        return f"{self.scale.size}"


class GELU(Module):
    """x (...)  ->  (...); the tanh form"""

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class ReLU(Module):
    """x (...)  ->  (...); 0 in place of what is negative"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Dropout(Module):
    """Zero each element with probability `rate` in training mode and scale the rest by 1 / (1 - rate); else identity.

    x (...)  ->  (...)
    """

    @without_keywords(DROPOUT)
    def __init__(self, rate: float, *, rng: RandomStream | None = None) -> None:
        self.rate = dropout_rate("dropout", rate)
        self.rng = Generator.unseeded() if rng is None else checked_stream(rng)

    @property
    def is_active(self) -> bool:
        """True in training mode with a rate above 0."""
        return self.training and self.rate > 0

    def keep_mask(self, like: Array, shape: tuple[int, ...]) -> Keep:
        """Draw a mask of the elements to keep, on the device of `like`."""
        return kernels_of(like).keep_mask(self.rng, shape, self.rate)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, "Dropout")
        return F.dropout(x, self.keep_mask(x.data, x.shape), self.rate) if self.is_active else x

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """x (...), residual (...)  ->  dropout(x) + residual, in one operation"""
        if not self.is_active:
            return x + residual
        return F.dropout_add(x, residual, self.keep_mask(x.data, x.shape), self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
