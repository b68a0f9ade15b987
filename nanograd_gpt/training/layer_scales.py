"""Measurement of an update by layer: how far it moves the weights, their gradients, and the scale of activations.

All of it is read from the update itself: nothing is computed twice, no random number is drawn, and no array of the
model or of the optimizer is written to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any, TypeAlias, TypeVar

from ..backend.contract import Array
from ..backend.select import kernels_of
from ..gpt.model import GPTModel
from ..nn.module import Module, Parameter
from ..tape.watch import Watcher, watched
from ..tensor import Tensor

T = TypeVar("T")
Scales: TypeAlias = dict[str, float | None]  # by layer

MOST_NUMBERS = 1 << 16  # of a matrix: larger ones are judged by evenly spaced rows
DIGITS = 4


@dataclass(frozen=True)
class LayerScales:
    """Norms of one update, by layer; arrays stay on the device, and reading one synchronises.

    Layers are "embeddings", "block 0" and so on, and "head", unless it shares the embeddings' weight.  Weights are the
    matrices and embeddings, without biases and norms.
    """

    weights: dict[str, Array] = field(default_factory=dict)  # norms after the update, ()
    updates: dict[str, Array] = field(default_factory=dict)  # norms of the change, ()
    gradients: dict[str, Array] = field(default_factory=dict)  # norms before clipping, ()
    sizes: dict[str, int] = field(default_factory=dict)  # numbers in those norms
    activations: dict[str, list[Array]] = field(default_factory=dict)  # norms of the residual stream, one a batch
    activation_sizes: dict[str, int] = field(default_factory=dict)

    def event(self) -> dict[str, Scales]:
        """Return what metrics.jsonl keeps: the update-to-weight ratio, and two root mean squares, by layer."""
        ratios: Scales = {}
        for layer, norm in self.updates.items():
            weight = float(self.weights[layer])
            ratios[layer] = _rounded(float(norm) / weight) if weight else None
        gradients = {layer: _rounded(float(norm) / sqrt(self.sizes[layer])) for layer, norm in self.gradients.items()}
        activations = {
            layer: _rounded(sqrt(sum(float(norm) * float(norm) for norm in norms) / self.activation_sizes[layer]))
            for layer, norms in self.activations.items()
        }
        return {"update_ratio": ratios, "gradient_rms": {**gradients}, "activation_rms": {**activations}}


def with_layer_scales(model: GPTModel, update: Callable[[], T]) -> tuple[T, LayerScales]:
    """Run an update of the model, and measure it on the way; returns its result too.

    The update must be computed here, not replayed from a CUDA graph.
    """
    layers = {layer: [_sampled(p.data) for p in weights] for layer, weights in layer_weights(model).items()}
    before = {layer: [part.copy() for part in parts] for layer, parts in layers.items()}
    streams = _Streams(model)
    with watched(streams):
        result = update()
    scales = LayerScales(activations=dict(streams.norms), activation_sizes=dict(streams.sizes))
    for layer, weights in layer_weights(model).items():
        scales.weights[layer] = _norm(layers[layer])
        scales.updates[layer] = _norm([a - b for a, b in zip(layers[layer], before[layer], strict=True)])
        gradients = [_sampled(gradient) for p in weights if (gradient := p.peek_grad()) is not None]
        if len(gradients) == len(weights):
            scales.gradients[layer] = _norm(gradients)
        scales.sizes[layer] = sum(part.size for part in layers[layer])
    return result, scales


def layer_weights(model: GPTModel) -> dict[str, list[Parameter]]:
    """Return the matrices and embeddings of a model by layer, from the input to the output."""
    parts: dict[str, list[Module]] = {"embeddings": [model.tok_emb, model.pos_emb]}
    parts |= {_block(i): [block] for i, block in enumerate(model.trf_blocks)}
    if not model.config.tied_head:
        parts["head"] = [model.out_head]
    return {
        layer: [p for module in modules for p in module.parameters() if p.ndim > 1] for layer, modules in parts.items()
    }


def _block(i: int) -> str:
    return f"block {i}"


class _Streams(Watcher):
    """Measures the residual stream: what the embeddings' dropout returns, and each block."""

    def __init__(self, model: GPTModel) -> None:
        self.layers = {id(model.drop_emb): "embeddings"}
        self.layers |= {id(block): _block(i) for i, block in enumerate(model.trf_blocks)}
        self.norms: dict[str, list[Array]] = defaultdict(list)
        self.sizes: dict[str, int] = defaultdict(int)

    def call(self, run: Callable[..., Any], module: Module, *inputs: Any, **options: Any) -> Any:
        """Call a module, and measure its result if that is the stream."""
        result = run(module, *inputs, **options)
        if (layer := self.layers.get(id(module))) is not None and isinstance(result, Tensor):
            self.norms[layer].append(_norm([result.data]))
            self.sizes[layer] += result.size
        return result


def _sampled(matrix: Array) -> Array:
    """A view of a matrix's rows: all of them, or so many, evenly spaced, that they have about MOST_NUMBERS numbers."""
    return matrix[:: max(1, matrix.size // MOST_NUMBERS)]


def _norm(arrays: Sequence[Array]) -> Array:
    """The norm of all numbers together ()."""
    whole = [array if array.flags.c_contiguous else array.copy() for array in arrays]  # as gradients always are
    norm, _ = kernels_of(whole[0]).clip_scale(whole, 1.0)
    return norm


def _rounded(value: float) -> float | None:
    """A value with DIGITS digits; None, not measured, if it is nan or infinite, which ends a run elsewhere."""
    return None if not isfinite(value) else float(f"{value:.{DIGITS}g}")
