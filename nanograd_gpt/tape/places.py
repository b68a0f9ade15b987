"""The arrays of named places in a forward pass, and their gradients.

The fused operations hold neither attention weights nor logits: both are computed here once more, for the tape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from ..autograd import Function, Node
from ..backend.contract import Array
from ..backend.plain.activation import softmax
from ..backend.plain.attention import heads, scaled_and_masked, split
from ..backend.select import in_float32, kernels_of
from ..gpt.model import GPTModel, TransformerBlock
from ..nn.module import Module
from ..ops.activation import GELU
from ..ops.attention import CausalAttention
from ..ops.loss import LinearCrossEntropy
from ..ops.matmul import LinearGELU
from ..tensor import Tensor
from .module_paths import joined
from .operation import Place
from .watch import Call

KINDS = ("embedding", "residual", "attention", "mlp", "logits")

GradientOf: TypeAlias = Callable[[Function, Array], Array]  # a node before its backward, its gradient -> the place's


class Places:
    """The places of these kinds, by name; a place that is computed several times has several entries, in order."""

    def __init__(self, kinds: Collection[str]) -> None:
        self.kinds = kinds
        self.found: dict[str, list[Place]] = {}
        self._waiting: dict[int, list[tuple[Place, GradientOf]]] = defaultdict(list)  # by the order of their node
        self._rows: tuple[int, ...] = ()  # (B, T) of the last block

    def see_operation(
        self,
        op: type[Function],
        arrays: Sequence[Any],
        params: Mapping[str, Any],
        recorded: tuple[Array, Node | None],
        caller: str,
        owner: str,
    ) -> None:
        """Keep what an operation holds; caller: the path of the module that called it, owner: of the one it is of."""
        out, node = recorded
        if issubclass(op, CausalAttention) and "attention" in self.kinds:
            self._add(joined(caller, "weights"), _attention_weights(arrays[0], params["n_heads"]), node, _dweights)
        elif issubclass(op, LinearGELU | GELU) and "mlp" in self.kinds:
            self._add(joined(caller, "activations"), out, node)
        elif issubclass(op, LinearCrossEntropy) and "logits" in self.kinds:
            x, weight = arrays
            logits = in_float32(kernels_of(x).linear(x, weight, None))  # (N, V)
            B_T = self._rows if self._rows and self._rows[0] * self._rows[1] == len(x) else (len(x),)

            def dlogits(node: Function, dloss: Array) -> Array:
                return _dlogits(logits, node.saved[2], node.saved[3], dloss).reshape(*B_T, -1)

            self._add(joined(owner, "logits"), logits.reshape(*B_T, -1), node, dlogits)

    def see_call(self, calls: Sequence[Call], path: str, result: object) -> None:
        """Keep the result of a module, the last of these calls, if it is a place."""
        if not isinstance(result, Tensor):
            return
        module = calls[-1].module
        model = next((c.module for c in reversed(calls) if isinstance(c.module, GPTModel)), None)
        if isinstance(module, TransformerBlock):
            self._rows = result.shape[:2]
        if (what := _what(module, model)) and what[0] in self.kinds:
            self._add(joined(path, what[1]), result.data, result.node)

    def see_backward(self, node: Function, dy: Array) -> None:
        """Keep the gradients of the places that are a node's result, or inside its operation."""
        for place, gradient_of in self._waiting.pop(node.order, ()):
            place.grad = gradient_of(node, dy)

    def _add(self, name: str, value: Array, node: Node | None, gradient_of: GradientOf | None = None) -> None:
        place = Place(name, in_float32(value))
        self.found.setdefault(name, []).append(place)
        if isinstance(node, Function):
            self._waiting[node.order].append((place, gradient_of or _copy))


def _what(module: Module, model: GPTModel | None) -> tuple[str, str] | None:
    """The kind of place that a module's result is, and its name there."""
    if isinstance(module, TransformerBlock):
        return "residual", "residual"
    if model is None:
        return None
    if module is model.tok_emb:
        return "embedding", "vectors"
    if module is model.drop_emb:
        return "residual", "residual"
    return ("logits", "logits") if module is model.out_head else None


def _copy(node: Function, dy: Array) -> Array:
    del node
    own = in_float32(dy)
    return dy.copy() if own is dy else own  # the engine may go on to use dy's memory


def _attention_weights(qkv: Array, n_heads: int) -> Array:
    """qkv (B, T, 3C)  ->  softmax(Q K^T / sqrt(D)) (B, H, T, T), before dropout"""
    q, k, _ = heads(in_float32(qkv), n_heads)
    scores = kernels_of(q).matrix_product(q, k.swapaxes(-1, -2))
    return softmax(scaled_and_masked(scores, q.shape[-1]), axis=-1)


def _dweights(node: Function, dy: Array) -> Array:
    """dy (B, T, C)  ->  the gradient of the attention weights (B, H, T, T); 0 for later keys, which have no weight"""
    qkv, _, _, n_heads, keep, rate = node.saved
    xp = node.kernels.xp
    _, _, v = heads(in_float32(qkv), n_heads)
    dweights = node.kernels.matrix_product(split(in_float32(dy), n_heads), v.swapaxes(-1, -2))
    if keep is not None:
        dweights = node.kernels.dropout(dweights, keep, rate)
    return xp.where(xp.tri(dweights.shape[-1], dtype=bool), dweights, xp.zeros((), dtype=dweights.dtype))


def _dlogits(logits: Array, targets: Array, log_sum_exp: Array, dloss: Array) -> Array:
    """logits (N, V), targets (N,), log_sum_exp (N, 1), dloss ()  ->  (N, V)"""
    xp = kernels_of(logits).xp
    dlogits = xp.exp(logits - log_sum_exp)
    dlogits[xp.arange(len(dlogits)), targets] -= 1
    dlogits *= dloss / len(dlogits)
    return dlogits
