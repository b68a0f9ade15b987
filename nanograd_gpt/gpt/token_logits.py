"""The logits after one new token of each text, by the kernels alone: no modules, no engine, no graph.

A token of GPT-2 124M is 110 operations, most of them on a few thousand numbers: modules and engine take some 2 of its
25 ms.  The kernels and their order are those of model.py and ops/, and so are the bits.
"""

from __future__ import annotations

from ..backend.contract import Array, Ints
from ..backend.cpu.threads import with_single_blas_thread
from ..backend.select import kernels_of
from ..nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear
from ..nn.module import Module, Sequential
from .kv_cache import KVCache
from .model import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock

LAYERS: list[type[Module]] = [TransformerBlock, MultiHeadAttention, FeedForward, Sequential]
LAYERS += [GPTModel, Embedding, LayerNorm, Linear, GELU, Dropout]
FORWARD = {layer: layer.forward for layer in LAYERS}


def is_plain(model: GPTModel) -> bool:
    """Whether the model is as model.py makes it: no layer or method replaced, no dropout active, and one dtype."""
    if type(model) is not GPTModel:
        return False
    for module in model.modules():
        kind = type(module)
        if FORWARD.get(kind) is not kind.forward or any(callable(getattr(kind, name, None)) for name in vars(module)):
            return False
        if isinstance(module, Dropout) and module.is_active:
            return False
    dtypes = {p.dtype for p in model.parameters()}
    return len(dtypes) == 1 and dtypes.pop().kind == "f"


def token_logits(model: GPTModel, tokens: Ints, cache: KVCache) -> Array:
    """tokens (B,) on the host, added to the cache  ->  logits of the next token (B, V); for a model that is_plain"""
    if len(tokens) > 1:  # whose products take BLAS's threads
        return _logits(model, tokens, cache)
    return with_single_blas_thread(lambda: _logits(model, tokens, cache))  # once, in place of some 50 times


def _logits(model: GPTModel, tokens: Ints, cache: KVCache) -> Array:
    ids = model.checked_ids(tokens[:, None], "ids")
    slots = cache.next_slots(*ids.shape)
    kernels = kernels_of(cache.memory)

    def normed(layer: LayerNorm, x: Array) -> Array:
        return kernels.layer_norm(x, layer.scale.data, layer.shift.data, layer.eps)[0]

    x = kernels.embedding(model.tok_emb.weight.data, ids) + kernels.embedding(model.pos_emb.weight.data, slots)
    for block, layer in zip(model.trf_blocks, cache.layers(slots), strict=True):
        assert isinstance(block, TransformerBlock)
        att, (widen, narrow) = block.att, block.ff.linears
        weights, *biases = [[p.data for p in group] for group in att.projection_parameters()]
        qkv = kernels.packed_linear(normed(block.norm1, x), weights, biases[0] if biases else [None] * len(weights))
        x = kernels.linear(kernels.cached_attention(qkv, *layer), *_arrays(att.out_proj)) + x
        h, _ = kernels.linear_gelu(normed(block.norm2, x), *_arrays(widen), want_derivative=False)
        x = kernels.linear(h, *_arrays(narrow)) + x
    cache.lengths += 1
    return kernels.linear(normed(model.final_norm, x).reshape(len(ids), -1), *_arrays(model.out_head))


def _arrays(layer: Linear) -> tuple[Array, Array | None]:
    return layer.weight.data, None if layer.bias is None else layer.bias.data
