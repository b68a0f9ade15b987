"""The contract of a backend: its kernels, with their arguments, shapes and what they may overwrite.

Shapes: B batch, T tokens, C channels, H heads, D = C / H, V vocabulary, N = B * T, I and O a layer's input and output.
Every kernel works in float32, float64 and, on the CPU, complex128 (the complex step that proves the gradients).
A kernel changes no input without saying so; it writes only into arrays it makes and into the GradOuts it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]  # or the cupy.ndarray that behaves like it
HostArray: TypeAlias = npt.NDArray[Any]  # NumPy's for certain
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Axis: TypeAlias = int | tuple[int, ...] | None  # None: all of them


class GradOut(NamedTuple):
    """Memory for the gradient of a parameter: a kernel writes over what is there, or adds to it."""

    array: Array
    accumulate: bool

    def write(self, gradient: Array) -> None:
        """Write or add a gradient, or anything that broadcasts to its shape."""
        into = self.array
        if self.accumulate:
            into += gradient
        else:
            into[...] = gradient


class Kernels(Protocol):
    """A backend.  A module is one if it has these names: see backend/cpu and backend/cuda."""

    xp: ModuleType  # numpy or cupy

    # matmul
    def matrix_product(self, x: Array, y: Array) -> Array:
        """x (..., I, J), y (..., J, K)  ->  (..., I, K), as NumPy's @: vectors on either side, batches broadcast."""
        ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """x (..., I), weight (O, I), bias (O,)  ->  y (..., O)"""
        ...

    def linear_backward(
        self, dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
    ) -> Array | None:
        """dy (..., O)  ->  dx (..., I) if wanted; dweight (O, I) and dbias (O,) into their GradOuts."""
        ...

    def packed_linear(self, x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
        """x (..., I), K weights (O, I), K biases (O,)  ->  y (..., K * O), the K results next to each other."""
        ...

    def packed_linear_backward(
        self,
        dy: Array,
        x: Array,
        weights: Sequence[Array],
        dweights: Sequence[GradOut | None],
        dbiases: Sequence[GradOut | None],
        want_dx: bool,
    ) -> Array | None:
        """dy (..., K * O)  ->  dx (..., I) if wanted; the gradients of weights and biases into their GradOuts."""
        ...

    # norm
    def layer_norm(self, x: Array, scale: Array, shift: Array, eps: float) -> tuple[Array, Array, Array]:
        """x (..., C), scale (C,), shift (C,)  ->  y (..., C), mean (..., 1), rstd (..., 1)"""
        ...

    def layer_norm_backward(
        self,
        dy: Array,
        x: Array,
        scale: Array,
        mean: Array,
        rstd: Array,
        dscale: GradOut | None,
        dshift: GradOut | None,
    ) -> Array:
        """dy (..., C)  ->  dx (..., C); dscale (C,) and dshift (C,) into their GradOuts."""
        ...

    # activation
    def gelu(self, x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
        """x (...)  ->  y (...), and dy/dx (...) if wanted.  The tanh form."""
        ...

    def linear_gelu(
        self, x: Array, weight: Array, bias: Array | None, want_derivative: bool
    ) -> tuple[Array, Array | None]:
        """x (..., I), weight (O, I), bias (O,)  ->  y = gelu(linear) (..., O), and its derivative if wanted."""
        ...

    def gelu_backward(self, dy: Array, derivative: Array) -> Array:
        """dy (...), derivative (...)  ->  dx = dy * derivative (...)"""
        ...

    def softmax(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  y (...), which sums to 1 along axis."""
        ...

    def log_softmax(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  log(softmax(x)) (...)"""
        ...

    def softmax_backward(self, dy: Array, y: Array, axis: Axis) -> Array:
        """dy (...), y (...)  ->  dx (...)"""
        ...

    def log_sum_exp(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  log(sum(exp(x))) along axis, which stays with length 1."""
        ...

    # attention
    def causal_attention(self, qkv: Array, n_heads: int, keep: Bools | None, rate: float) -> tuple[Array, Array]:
        """qkv (B, T, 3C), keep (B, H, T, T)  ->  context (B, T, C), log_sum_exp of the scores (B, H, T, 1)"""
        ...

    def causal_attention_backward(
        self, dy: Array, qkv: Array, lse: Array, n_heads: int, keep: Bools | None, rate: float
    ) -> Array:
        """dy (B, T, C)  ->  dqkv (B, T, 3C)"""
        ...

    def cached_attention(self, qkv: Array, keys: Array, values: Array, slots: Ints, stop: int) -> Array:
        """qkv (B, T, 3C) of T new tokens, keys and values (B, H, S, D) of those before  ->  context (B, T, C)

        slots (B, T): where each new token goes, one after the other in a row; a token sees the slots up to its own.
        Writes the new keys and values into their slots.  No slot reaches `stop`, and nothing from there on is looked
        at; what lies before it, seen or not, must be finite.  Keeps nothing for a backward.
        """
        ...

    # embedding
    def embedding(self, weight: Array, ids: Ints) -> Array:
        """weight (V, C), ids (...)  ->  y (..., C)"""
        ...

    def embedding_backward(self, dy: Array, ids: Ints, dweight: GradOut) -> None:
        """dy (..., C), ids (...): the rows of dy are summed by id into dweight (V, C)."""
        ...

    # dropout
    def dropout(self, x: Array, keep: Bools, rate: float) -> Array:
        """x (...), keep (...)  ->  x / (1 - rate) where kept, else 0.  Its own backward."""
        ...

    def dropout_add(self, x: Array, keep: Bools, rate: float, residual: Array) -> Array:
        """x, keep, residual (...)  ->  dropout(x) + residual (...)"""
        ...

    # loss
    def cross_entropy(self, logits: Array, targets: Ints) -> tuple[Array, Array, Array]:
        """logits (N, V), targets (N,)  ->  mean loss (), each row's largest and sum of exp(logit - largest) (N, 1)"""
        ...

    def cross_entropy_backward(self, dloss: Array, logits: Array, targets: Ints, largest: Array, total: Array) -> Array:
        """dloss ()  ->  dlogits (N, V)"""
        ...

    def linear_cross_entropy(
        self, x: Array, weight: Array, targets: Ints, want_gradient: bool
    ) -> tuple[Array, Array, Array | None]:
        """x (N, C), weight (V, C), targets (N,)  ->  mean loss (), log_sum_exp (N, 1), and if wanted the gradient of
        the loss by the logits of as many first rows as the backend likes to keep (..., V).
        """
        ...

    def linear_cross_entropy_backward(
        self,
        dloss: Array,
        x: Array,
        weight: Array,
        targets: Ints,
        log_sum_exp: Array,
        kept: Array | None,
        dweight: GradOut | None,
        want_dx: bool,
    ) -> Array | None:
        """dloss ()  ->  dx (N, C) if wanted; dweight (V, C) into its GradOut."""
        ...

    # optimizer
    def adamw(
        self,
        param: Array,
        grad: Array,
        exp_avg: Array,
        exp_avg_sq: Array,
        *,
        step: int,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        """One AdamW update, step counted from 1, in place on param, exp_avg and exp_avg_sq: all (size,)."""
        ...

    def squared_norm(self, flat: Array) -> Array:
        """flat (size,)  ->  sum of squares ()"""
        ...
