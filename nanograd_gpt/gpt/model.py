"""The GPT of the book's chapter 4, with its class and attribute names, so that weights match by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..backend.contract import Array, Ints
from ..backend.select import device_of, kernels_of, to_device, to_host
from ..errors import InputError
from ..grad_mode import is_grad_enabled, no_grad
from ..nn import functional as F
from ..nn.flat import pack_contiguous
from ..nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear
from ..nn.module import Module, Parameter, Sequential
from ..nn.token_ids import TokenIds, as_ids
from ..rng import Generator, RandomStream, checked_stream
from ..tensor import Tensor
from .config import GPTConfig
from .kv_cache import KVCache, LayerCache


class MultiHeadAttention(Module):
    """Causal multi-head self-attention, with dropout on the attention weights.

    x (B, T, d_in)  ->  (B, T, d_out)

    With a cache, x are the tokens after those in the cache, and are added to it.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        *,
        rng: RandomStream,
    ) -> None:
        self.context_length = whole_number("context_length", context_length, 1)
        self.num_heads = whole_number("num_heads", num_heads, 1)
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, rng=rng)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, rng=rng)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, rng=rng)
        self._pack_projections()
        self.out_proj = Linear(d_out, d_out, rng=rng)
        self.dropout = Dropout(dropout, rng=rng)

    def _pack_projections(self) -> None:
        """Pack the three weights contiguously, and the biases, so that one product gives queries, keys and values."""
        for group in self.projection_parameters():
            pack_contiguous(group)

    def projection_parameters(self) -> list[list[Parameter]]:
        """The weights of the three projections, and their biases, if any: each contiguous in memory in this order."""
        projections = self.W_query, self.W_key, self.W_value
        biases = [p.bias for p in projections if p.bias is not None]
        return [[p.weight for p in projections], *([biases] if biases else [])]

    def _after_move(self) -> None:
        if device_of(self.W_query.weight.data) == "cuda":  # on the CPU, one product would have other bits than three
            self._pack_projections()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a copy or a pickle, and pack the parameters again: their arrays were copied separately."""
        vars(self).update(state)
        self._pack_projections()

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        B, T, _ = x.shape
        projections = self.W_query, self.W_key, self.W_value
        biases = [p.bias for p in projections if p.bias is not None]
        qkv = F.packed_linear(x, [p.weight for p in projections], biases)  # (B, T, 3 * d_out)
        if cache is None:
            scores = B, self.num_heads, T, T
            keep = self.dropout.keep_mask(x.data, scores) if self.dropout.is_active else None
            context = F.causal_attention(qkv, self.num_heads, keep, self.dropout.rate)  # (B, T, d_out)
        else:
            context = cache.attention(qkv)  # (B, T, d_out)
        return self.out_proj(context)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"


class FeedForward(Module):
    """Two linear layers with a GELU between them, four times as wide in the middle.

    x (B, T, C)  ->  (B, T, C)
    """

    def __init__(self, cfg: GPTConfig, *, rng: RandomStream) -> None:
        widen = Linear(cfg.emb_dim, 4 * cfg.emb_dim, rng=rng)
        narrow = Linear(4 * cfg.emb_dim, cfg.emb_dim, rng=rng)
        self.layers = Sequential(widen, GELU(), narrow)
        self.linears = widen, narrow  # the same two, with their static type

    def forward(self, x: Tensor) -> Tensor:
        widen, narrow = self.linears
        h = F.linear_gelu(x, widen.weight, widen.bias)  # (B, T, 4C), linear and GELU fused
        return narrow(h)


class TransformerBlock(Module):
    """Attention, then feed-forward, each with pre-normalisation and a residual connection.

    x (B, T, C)  ->  (B, T, C)
    """

    def __init__(self, cfg: GPTConfig, *, rng: RandomStream) -> None:
        C = cfg.emb_dim
        self.att = MultiHeadAttention(
            C, C, cfg.context_length, cfg.drop_rate, cfg.n_heads, qkv_bias=cfg.qkv_bias, rng=rng
        )
        self.ff = FeedForward(cfg, rng=rng)
        self.norm1 = LayerNorm(C)
        self.norm2 = LayerNorm(C)
        self.drop_shortcut = Dropout(cfg.drop_rate, rng=rng)
        # All parameters in one array: it gets large pages, from which they are read faster for each new token.
        first = [p for group in self.att.projection_parameters() for p in group]
        pack_contiguous([*first, *(p for p in self.parameters() if not any(p is q for q in first))])

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = self.drop_shortcut.add(self.att(self.norm1(x), cache), x)
        x = self.drop_shortcut.add(self.ff(self.norm2(x)), x)
        return x


class GPTModel(Module):
    """GPT: logits of the next token at every position.

    ids (B, T)  ->  (B, T, V)

    config              GPTConfig, or the book's dictionary of its fields
    rng                 random stream for the initial weights and for dropout's masks later [Generator()]

    Called with ids: integers in 0 .. V - 1, an array, a list or a Tensor, T in 1 .. context_length.  With cache=, a
    KVCache from new_cache, ids are the tokens after those in the cache; in eval mode within no_grad() only.
    Raises InputError for sizes that do not fit together and for ids that are not (B, T), too long, or out of range.
    Source: book section 4.6.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = GPTModel(config, rng=ng.Generator(123)).eval()
    >>> model([[1, 2, 3]]).shape, model.n_parameters
    ((1, 3, 100), 9824)
    >>> print(f"{model.loss([[1, 2, 3]], [[2, 3, 4]]).item():.2f} nats")  # untrained: about log(100) = 4.61
    4.71 nats
    """

    def __init__(self, config: GPTConfig | Mapping[str, Any], *, rng: RandomStream | None = None) -> None:
        self.config = cfg = GPTConfig.of(config)
        self.rng = rng = Generator() if rng is None else checked_stream(rng)
        self.tok_emb = Embedding(cfg.vocab_size, cfg.emb_dim, rng=rng)
        self.pos_emb = Embedding(cfg.context_length, cfg.emb_dim, rng=rng)
        self.drop_emb = Dropout(cfg.drop_rate, rng=rng)
        self.trf_blocks = Sequential(*[TransformerBlock(cfg, rng=rng) for _ in range(cfg.n_layers)])
        self.final_norm = LayerNorm(cfg.emb_dim)
        self.out_head = Linear(cfg.emb_dim, cfg.vocab_size, bias=False, rng=rng)
        if cfg.tied_head:  # initialised as a head: an embedding's N(0, 1) would make the logits far too large
            self.tok_emb.weight = self.out_head.weight

    def forward(self, ids: TokenIds, *, cache: KVCache | None = None) -> Tensor:
        return self.out_head(self.hidden_states(ids, cache))  # (B, T, V)

    @no_grad()
    def next_token_logits(self, ids: Ints, cache: KVCache | None = None, counts: Ints | None = None) -> Tensor:
        """ids (B, T)  ->  logits of the token after each row's last (B, V); the head runs on the last position only

        Rows of different lengths are padded on the right with any token; counts (B,), on the host, is the number of
        tokens without padding in each row, at least 1.  Records no graph.
        """
        x = self.hidden_states(ids, cache, counts)  # (B, T, C)
        B, T, C = x.shape
        if T == 1:
            return self.out_head(x.reshape(B, C))  # (B, V), without indices to copy to a GPU
        last = np.full(B, T - 1) if counts is None else counts - 1
        return self.out_head(x[np.arange(B), last])  # (B, V)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KVCache:
        """Create an empty KVCache of batch_size rows with a capacity of 1 .. context_length tokens [context_length]."""
        cfg, weight = self.config, self.tok_emb.weight.data
        batch_size = whole_number("batch_size", batch_size)
        capacity = cfg.context_length if capacity is None else whole_number("capacity", capacity)
        if batch_size < 1 or not 1 <= capacity <= cfg.context_length:
            raise InputError(
                f"cache: {batch_size} rows of {capacity}; choose 1 or more rows of 1 .. {cfg.context_length}"
            )
        shape = 2, cfg.n_layers, batch_size, cfg.n_heads, capacity, cfg.emb_dim // cfg.n_heads
        memory = kernels_of(weight).xp.zeros(shape, dtype=weight.dtype)
        return KVCache(memory, lengths=np.zeros(batch_size, dtype=np.int64))

    def loss(self, ids: TokenIds, targets: TokenIds) -> Tensor:
        """ids (B, T), targets (B, T)  ->  mean cross-entropy in nats (), chunked so that the full logits never exist"""
        ids, targets = as_ids(ids), as_ids(targets)
        if targets.shape != ids.shape:
            raise InputError(f"targets: shape {targets.shape} differs from the ids' {ids.shape}")
        targets = self.checked_ids(targets, "targets").reshape(-1)
        x = self.hidden_states(ids).reshape(-1, self.config.emb_dim)  # (N, C)
        return F.linear_cross_entropy(x, self.out_head.weight, targets, checked=True)

    def hidden_states(self, ids: TokenIds, cache: KVCache | None = None, counts: Ints | None = None) -> Tensor:
        """ids (B, T), with counts (B,) tokens per row that are not padding  ->  final normed states (B, T, C)"""
        ids = self.checked_ids(as_ids(ids), "ids")
        if cache is not None:
            slots = self._next_slots(cache, ids)
            x = self._states_in(ids, slots, cache.layers(slots))
            cache.lengths += ids.shape[1] if counts is None else counts
            return x
        positions = kernels_of(ids).xp.arange(ids.shape[1])
        x = self.tok_emb(ids, checked=True) + self.pos_emb(positions, checked=True)  # (B, T, C)
        return self.final_norm(self.trf_blocks(self.drop_emb(x)))

    def _states_in(self, ids: Ints, slots: Ints, layers: Iterable[LayerCache]) -> Tensor:
        """ids (B, T), whose positions in the text are their slots (B, T)  ->  final normed states (B, T, C)"""
        x = self.drop_emb(self.tok_emb(ids, checked=True) + self.pos_emb(slots, checked=True))
        for block, layer in zip(self.trf_blocks, layers, strict=True):
            x = block(x, layer)
        return self.final_norm(x)

    @no_grad()
    def logits_in_slots(self, ids: Ints, slots: Ints, cache: KVCache) -> Tensor:
        """ids (B, 1), slots (B, 1) of the cache  ->  logits of the next token (B, V)

        ids and slots are arrays on the model's device, and neither is checked, nor is cache.lengths changed: nothing
        here depends on a number on the host, so that a CUDA graph can record it.
        """
        x = self._states_in(ids, slots, cache.layers(slots, cache.capacity))
        return self.out_head(x.reshape(len(ids), self.config.emb_dim))

    def _next_slots(self, cache: KVCache, ids: Ints) -> Ints:
        """Return the ids' slots in the cache (B, T), which are also their positions in the text."""
        if is_grad_enabled() or self.training:
            raise InputError("cache: it supports neither backward nor dropout; use model.eval(), within no_grad()")
        return to_device(cache.next_slots(*ids.shape), self.device)

    def checked_ids(self, ids: Ints, what: str) -> Ints:
        """Validate ids and move them to the model's device.  Values on a GPU are not checked: no synchronisation."""
        length, V = self.config.context_length, self.config.vocab_size
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise InputError(f"{what}: expected integers of shape (B, T), got {ids.dtype} of shape {ids.shape}")
        if not ids.size:
            raise InputError(f"{what}: expected at least one token, got shape {ids.shape}")
        if ids.shape[1] > length:
            raise InputError(f"{what}: {ids.shape[1]} tokens are more than context_length = {length}")
        if isinstance(ids, np.ndarray) and not 0 <= ids.min() <= ids.max() < V:
            raise InputError(f"{what}: {ids.min()} .. {ids.max()} reach outside the vocabulary, 0 .. {V - 1}")
        return to_device(ids, self.device)

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy weights in by name; the book's constant mask buffers are ignored.

        A tied head is named tok_emb.weight; an out_head.weight beside it must be equal, else InputError.
        """
        weights = {name: a for name, a in state.items() if not name.endswith(".att.mask")}
        if self.config.tied_head and "tok_emb.weight" in weights:
            head = weights.pop("out_head.weight", weights["tok_emb.weight"])
            if not np.array_equal(to_host(head), to_host(weights["tok_emb.weight"])):
                raise InputError(
                    "state_dict: out_head.weight differs from tok_emb.weight; load it with tied_head False"
                )
        super().load_state_dict(weights)

    def book_state_dict(self) -> dict[str, Array]:
        """Return a state_dict that the book's PyTorch model loads with strict=True.

        Adds its mask buffers, and the head's weight even if it is tied.
        """
        length = self.config.context_length
        mask = np.triu(np.ones((length, length), dtype=np.float32), k=1)
        state = {}
        for name, array in self.state_dict().items():
            if name.endswith(".att.W_query.weight"):
                state[name.removesuffix("W_query.weight") + "mask"] = mask
            state[name] = to_host(array)
        state["out_head.weight"] = to_host(self.out_head.weight.data)
        return state
