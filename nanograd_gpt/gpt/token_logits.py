"""The logits after one new token of each text, by the kernels alone: no modules, no engine, no graph.

A token of GPT-2 124M is 110 operations, most of them on a few thousand numbers: modules and engine take some 2 of its
25 ms.  The kernels and their order are those of model.py and ops/, and so are the bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backend.contract import Array, Ints
from ..backend.cpu.threads import with_single_blas_thread
from ..backend.select import kernels_of
from ..nn.layers import Dropout, Embedding, LayerNorm, Linear
from ..nn.module import Module, Sequential
from .kv_cache import KVCache
from .model import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock

LAYERS: list[type[Module]] = [GPTModel, TransformerBlock, MultiHeadAttention, FeedForward, Sequential]
LAYERS += [Embedding, LayerNorm, Linear, Dropout]
METHODS = {layer: frozenset(name for name in dir(layer) if callable(getattr(layer, name))) for layer in LAYERS}
PASSED = [(layer, name) for layer in LAYERS for name in ("__call__", "forward")]
PASSED += [(Dropout, "add"), (GPTModel, "next_token_logits"), (GPTModel, "hidden_states"), (GPTModel, "_states_in")]
FUNCTIONS = [(layer, name, getattr(layer, name)) for layer, name in PASSED]


def has_uniform_parameters(model: GPTModel) -> bool:
    """Whether all weights are C-contiguous and of one floating-point dtype; for a model that is_standard."""
    arrays = [p.data for p in model.parameters()]
    return len({a.dtype for a in arrays}) == 1 and all(a.dtype.kind == "f" and a.flags.c_contiguous for a in arrays)


def is_standard(model: GPTModel) -> bool:
    """Whether the model's forward is that of model.py: no layer or method of one is replaced, and no dropout active."""
    if any(getattr(layer, name) is not function for layer, name, function in FUNCTIONS):
        return False
    for module, layer in _places(model):
        if type(module) is not layer or not METHODS[layer].isdisjoint(vars(module)):
            return False
        if isinstance(module, Dropout) and module.is_active:
            return False
    return True


def _places(model: Any) -> Iterator[tuple[Any, type[Module]]]:
    """Each module that a token passes, and what model.py has there."""
    yield model, GPTModel
    yield from ((model.tok_emb, Embedding), (model.pos_emb, Embedding), (model.drop_emb, Dropout))
    yield model.trf_blocks, Sequential
    for block in model.trf_blocks:
        yield block, TransformerBlock
        att, ff = block.att, block.ff
        yield from ((block.norm1, LayerNorm), (att, MultiHeadAttention), (block.drop_shortcut, Dropout))
        yield from ((att.W_query, Linear), (att.W_key, Linear), (att.W_value, Linear), (att.out_proj, Linear))
        yield from ((block.norm2, LayerNorm), (ff, FeedForward))
        yield from zip(ff.linears, (Linear, Linear), strict=True)
    yield from ((model.final_norm, LayerNorm), (model.out_head, Linear))


def token_logits(model: GPTModel, tokens: Ints, cache: KVCache) -> Array:
    """tokens (B,) on the host, added to the cache  ->  logits of the next token (B, V), for a standard model"""
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
        x = kernels.linear(kernels.cached_attention(qkv, *layer), *_weight_and_bias(att.out_proj)) + x
        h, _ = kernels.linear_gelu(normed(block.norm2, x), *_weight_and_bias(widen), want_derivative=False)
        x = kernels.linear(h, *_weight_and_bias(narrow)) + x
    cache.lengths += 1
    return kernels.linear(normed(model.final_norm, x).reshape(len(ids), -1), *_weight_and_bias(model.out_head))


def _weight_and_bias(layer: Linear) -> tuple[Array, Array | None]:
    return layer.weight.data, None if layer.bias is None else layer.bias.data
