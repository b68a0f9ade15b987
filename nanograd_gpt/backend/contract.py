"""The interface of a backend: its kernels, with their arguments, shapes and in-place effects.

Shapes: B batch, T tokens, C channels, H heads, D = C / H, V vocabulary, N = B * T, I and O a layer's input and output.
Every kernel works in float32, float64 and, on the CPU, complex128 (for gradient checks by complex step).  On a GPU in
precision "bf16", results of layers of 64 rows or more are of bfloat16, as are their gradients; parameters and the
residual stream are not.
Kernels write only to arrays that they allocate and to the GradOuts they are given, except where documented.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..mask_recipe import MaskRecipe

Array: TypeAlias = npt.NDArray[Any]  # or a cupy.ndarray
HostArray: TypeAlias = npt.NDArray[Any]  # always NumPy's
Bools: TypeAlias = npt.NDArray[np.bool_]
Keep: TypeAlias = Bools  # or what a backend's keep_mask returns in its place, with a shape and a dtype
Ints: TypeAlias = npt.NDArray[np.integer[Any]]
Axis: TypeAlias = int | tuple[int, ...] | None  # None: all axes


class MaskSource(Protocol):
    """A random stream, as far as dropout needs it."""

    def keep_mask(self, shape: tuple[int, ...], rate: float) -> Bools: ...
    def mask_recipe(self, rate: float, size: int) -> MaskRecipe | None: ...


class GradOut(NamedTuple):
    """Memory for a gradient, which a kernel overwrites or, if accumulate is True, adds to."""

    array: Array
    accumulate: bool

    def write(self, gradient: Array) -> None:
        """Write or add a gradient; it may broadcast to the array's shape."""
        into = self.array
        if self.accumulate:
            into += gradient
        else:
            into[...] = gradient


class AdamWNumbers(NamedTuple):
    """The numbers of one AdamW update, in the order of the array that `adamw` takes."""

    decay: float  # 1 - lr * weight_decay
    rate: float  # lr * root / (1 - beta1^step), where root is sqrt(1 - beta2^step)
    beta1: float
    rest1: float  # 1 - beta1
    beta2: float
    rest2: float  # 1 - beta2
    eps: float  # eps * root
    padding: float = 0.0  # to 64 bytes: CUDA kernels take arrays, such as a row of several, at multiples of 16

    @classmethod
    def at_step(cls, step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamWNumbers:
        """The numbers of update `step`, which counts from 1."""
        beta1, beta2 = betas
        root = (1 - beta2**step) ** 0.5
        rate = lr * root / (1 - beta1**step)
        return cls(1 - lr * weight_decay, rate, beta1, 1 - beta1, beta2, 1 - beta2, eps * root)


class Kernels(Protocol):
    """A backend: a module with these names, such as backend/cpu and backend/cuda."""

    xp: ModuleType  # numpy or cupy
    PARAMETER_ALIGNMENT: int  # elements: an optimizer's flat array has each parameter at a multiple

    # matmul
    def matrix_product(self, x: Array, y: Array) -> Array:
        """x (..., I, J), y (..., J, K)  ->  (..., I, K), as NumPy's @, with vectors and broadcasting."""
        ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """x (..., I), weight (O, I), bias (O,)  ->  y (..., O)"""
        ...

    def linear_backward(
        self, dy: Array, x: Array, weight: Array, dweight: GradOut | None, dbias: GradOut | None, want_dx: bool
    ) -> Array | None:
        """dy (..., O)  ->  dx (..., I) if wanted; writes dweight (O, I) and dbias (O,) to their GradOuts."""
        ...

    def packed_linear(self, x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> Array:
        """x (..., I), K weights (O, I), K biases (O,)  ->  y (..., K * O), the K outputs concatenated."""
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
        """dy (..., K * O)  ->  dx (..., I) if wanted; writes the parameters' gradients to their GradOuts."""
        ...

    def without_bfloat16(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """The arrays, with those of bfloat16 in float32: for operations that do not take it; others as they are."""
        ...

    def product_weights(self, x: Array, weights: Sequence[Array]) -> Sequence[Array]:
        """A layer's weights (O, I) as its products with x (..., I) take them, forward and backward."""
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
        residual: Array | None,
    ) -> Array:
        """dy (..., C)  ->  dx (..., C), plus residual (..., C) if given; writes dscale and dshift (C,)."""
        ...

    # activation
    def gelu(self, x: Array, want_derivative: bool) -> tuple[Array, Array | None]:
        """x (...)  ->  y (...), and dy/dx (...) if wanted.  The tanh form."""
        ...

    def linear_gelu(
        self, x: Array, weight: Array, bias: Array | None, want_derivative: bool
    ) -> tuple[Array, Array | None]:
        """x (..., I), weight (O, I), bias (O,)  ->  y = gelu(linear) (..., O); what its backward needs, if wanted"""
        ...

    def linear_gelu_backward(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        kept: Array,
        dweight: GradOut | None,
        dbias: GradOut | None,
        want_dx: bool,
    ) -> Array | None:
        """dy (..., O), kept: what linear_gelu returned for it  ->  as linear_backward"""
        ...

    def gelu_backward(self, dy: Array, derivative: Array) -> Array:
        """dy (...), derivative (...)  ->  dx = dy * derivative (...)"""
        ...

    def softmax(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  y (...), summing to 1 along axis."""
        ...

    def log_softmax(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  log(softmax(x)) (...)"""
        ...

    def softmax_backward(self, dy: Array, y: Array, axis: Axis) -> Array:
        """dy (...), y (...)  ->  dx (...)"""
        ...

    def log_sum_exp(self, x: Array, axis: Axis) -> Array:
        """x (...)  ->  log(sum(exp(x))) along axis, with keepdims."""
        ...

    # attention
    def causal_attention(self, qkv: Array, n_heads: int, keep: Keep | None, rate: float) -> tuple[Array, Array]:
        """qkv (B, T, 3C), keep (B, H, T, T)  ->  context (B, T, C), log_sum_exp of the scores (B, H, T, 1)"""
        ...

    def causal_attention_backward(
        self, dy: Array, qkv: Array, context: Array, lse: Array, n_heads: int, keep: Keep | None, rate: float
    ) -> Array:
        """dy (B, T, C)  ->  dqkv (B, T, 3C)"""
        ...

    def cached_attention(self, qkv: Array, keys: Array, values: Array, slots: Ints, stop: int) -> Array:
        """qkv (B, T, 3C) of T new tokens, keys and values (B, H, S, D) of those before  ->  context (B, T, C)

        slots (B, T): the slot of each new token, consecutive in a row; a token attends to the slots up to its own.
        Writes the new keys and values to their slots, in place.  All slots are below `stop`, and slots from there on
        are not read; those below must be finite, attended to or not.  Has no backward.
        """
        ...

    # embedding
    def embedding(self, weight: Array, ids: Ints) -> Array:
        """weight (V, C), ids (...)  ->  y (..., C)"""
        ...

    def embedding_backward(self, dy: Array, ids: Ints, dweight: GradOut) -> None:
        """dy (..., C), ids (...): sums the rows of dy by id into dweight (V, C)."""
        ...

    # dropout
    def keep_mask(self, rng: MaskSource, shape: tuple[int, ...], rate: float) -> Keep:
        """The next mask of a stream: True, for keep, with probability 1 - rate; the same one on every backend."""
        ...

    def dropout(self, x: Array, keep: Keep, rate: float, dtype: Any = None) -> Array:
        """x (...), keep (...)  ->  x / (1 - rate) where kept, else 0, of this dtype [x's]; also its own backward."""
        ...

    def dropout_add(self, x: Array, keep: Keep, rate: float, residual: Array) -> Array:
        """x, keep, residual (...)  ->  dropout(x) + residual (...)"""
        ...

    # loss
    def cross_entropy(self, logits: Array, targets: Ints) -> tuple[Array, Array, Array]:
        """logits (N, V), targets (N,)  ->  mean loss (), each row's max and sum of exp(logit - max) (N, 1)"""
        ...

    def cross_entropy_backward(self, dloss: Array, logits: Array, targets: Ints, largest: Array, total: Array) -> Array:
        """dloss ()  ->  dlogits (N, V)"""
        ...

    def linear_cross_entropy(
        self, x: Array, weight: Array, targets: Ints, want_gradient: bool
    ) -> tuple[Array, Array, Array | None]:
        """x (N, C), weight (V, C), targets (N,)  ->  mean loss (), log_sum_exp (N, 1), what backward needs if wanted

        The last is the gradient by the logits of the first rows, as many as the backend chooses to keep, or None.
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
        """dloss ()  ->  dx (N, C) if wanted; writes dweight (V, C) to its GradOut."""
        ...

    # optimizer
    def clip_scale(self, gradients: Sequence[Array], max_norm: float) -> tuple[Array, Array]:
        """gradients (...) each  ->  their global norm (), and min(max_norm / (norm + 1e-6), 1) ()"""
        ...

    def adamw(
        self, param: Array, grad: Array, exp_avg: Array, exp_avg_sq: Array, numbers: Array, scale: Array | None
    ) -> None:
        """One AdamW update of param, exp_avg and exp_avg_sq (size,), in place; the gradient is grad * scale ().

        numbers (8,) float64: AdamWNumbers.  They are on the device, so that a recorded update is replayed with others.
        """
        ...


CONVERSIONS = {"without_bfloat16", "product_weights"}  # which compute nothing
KERNELS = sorted(
    name
    for name, member in vars(Kernels).items()
    if callable(member) and not name.startswith("_") and name not in CONVERSIONS
)
