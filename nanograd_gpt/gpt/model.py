"""The GPT of the book's chapter 4: same classes, same attribute names, so that weights fit by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import whole_number
from ..backend.contract import Array, Ints
from ..backend.select import kernels_of, to_device, to_host
from ..errors import InputError
from ..grad_mode import is_grad_enabled, no_grad
from ..nn import functional as F
from ..nn.flat import pack_contiguous
from ..nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear
from ..nn.module import Module, Sequential
from ..rng import Generator, RandomStream, checked_stream
from ..tensor import Tensor, TokenIds, as_ids
from .config import GPTConfig
from .kv_cache import KVCache, LayerCache


class MultiHeadAttention(Module):
    """Causal self-attention in several heads, with dropout on the attention weights.

    x (B, T, d_in)  ->  (B, T, d_out)

    With a cache, x are the tokens that come after those it holds, and are kept there.
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
        self._join_projections()
        self.out_proj = Linear(d_out, d_out, rng=rng)
        self.dropout = Dropout(dropout, rng=rng)

    def _join_projections(self) -> None:
        """Make queries, keys and values one product."""
        pack_contiguous([p.weight for p in (self.W_query, self.W_key, self.W_value)])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, whose arrays have been copied one by one."""
        vars(self).update(state)
        self._join_projections()

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        B, T, _ = x.shape
        projections = self.W_query, self.W_key, self.W_value
        biases = [p.bias for p in projections if p.bias is not None]
        qkv = F.packed_linear(x, [p.weight for p in projections], biases)  # (B, T, 3 * d_out)
        if cache is None:
            scores = B, self.num_heads, T, T
            keep = self.dropout.keep_mask(scores, x.device) if self.dropout.drops else None
            context = F.causal_attention(qkv, self.num_heads, keep, self.dropout.rate)  # (B, T, d_out)
        else:
            context = cache.attention(qkv)  # (B, T, d_out)
        return self.out_proj(context)


class FeedForward(Module):
    """Two linear layers, four times as wide in between.

    x (B, T, C)  ->  (B, T, C)
    """

    def __init__(self, cfg: GPTConfig, *, rng: RandomStream) -> None:
        widen = Linear(cfg.emb_dim, 4 * cfg.emb_dim, rng=rng)
        narrow = Linear(4 * cfg.emb_dim, cfg.emb_dim, rng=rng)
        self.layers = Sequential(widen, GELU(), narrow)
        self.linears = widen, narrow  # the same two, by their type

    def forward(self, x: Tensor) -> Tensor:
        widen, narrow = self.linears
        h = F.linear_gelu(x, widen.weight, widen.bias)  # (B, T, 4C): the first two layers in one operation
        return narrow(h)


class TransformerBlock(Module):
    """Attention, then feed-forward: each normalised before, and added to what came in.

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

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = self.drop_shortcut.add(self.att(self.norm1(x), cache), x)
        x = self.drop_shortcut.add(self.ff(self.norm2(x)), x)
        return x


class GPTModel(Module):
    """Token ids in, logits of the next token out.

    ids (B, T) of integers, an array, a list or a Tensor, T <= context_length  ->  (B, T, V)

    `config` is the book's dictionary or a GPTConfig; `rng` initialises the weights, and draws dropout's masks later.
    With a cache, ids are the tokens that come after those it holds: within no_grad() and in evaluation mode alone.
    Raises InputError for sizes that do not fit together, and for ids that are not (B, T), too long, or outside V.
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
        if cfg.tied_head:  # begun as a head is, not as an embedding: of N(0, 1) the logits would be far too large
            self.tok_emb.weight = self.out_head.weight

    def forward(self, ids: TokenIds, *, cache: KVCache | None = None) -> Tensor:
        return self.out_head(self.hidden_states(ids, cache))  # (B, T, V)

    @no_grad()
    def next_token_logits(self, ids: Ints, cache: KVCache | None = None, counts: Ints | None = None) -> Tensor:
        """ids (B, T)  ->  logits of the token after each row's last (B, V): the head runs on that one alone.

        Rows of different lengths are padded on the right with any token; counts (B,), on the host, says how many
        tokens of each row are its own, at least 1.  Leaves no graph behind.
        """
        x = self.hidden_states(ids, cache, counts)  # (B, T, C)
        B, T, _ = x.shape
        last = np.full(B, T - 1) if counts is None else counts - 1
        return self.out_head(x[np.arange(B), last])  # (B, V)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> KVCache:
        """An empty cache of this many rows, with room for a whole context in each, or for fewer tokens."""
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
        """Mean cross-entropy in nats of targets (B, T), a scalar: head and loss in chunks, never all logits at once."""
        ids, targets = as_ids(ids), as_ids(targets)
        if targets.shape != ids.shape:
            raise InputError(f"targets: shape {targets.shape} differs from the ids' {ids.shape}")
        targets = self._checked(targets, "targets").reshape(-1)
        x = self.hidden_states(ids).reshape(-1, self.config.emb_dim)  # (N, C)
        return F.linear_cross_entropy(x, self.out_head.weight, targets, checked=True)

    def hidden_states(self, ids: TokenIds, cache: KVCache | None = None, counts: Ints | None = None) -> Tensor:
        """ids (B, T), of which counts (B,) of a row are no padding  ->  what goes into the head (B, T, C)"""
        ids = self._checked(as_ids(ids), "ids")
        positions = kernels_of(ids).xp.arange(ids.shape[1]) if cache is None else self._next_slots(cache, ids)
        x = self.tok_emb(ids, checked=True) + self.pos_emb(positions, checked=True)  # (B, T, C)
        x = self.drop_emb(x)
        if cache is None:
            x = self.trf_blocks(x)
        else:
            for block, layer in zip(self.trf_blocks, cache.layers(positions), strict=True):
                x = block(x, layer)
            cache.lengths += ids.shape[1] if counts is None else counts
        return self.final_norm(x)

    def _next_slots(self, cache: KVCache, ids: Ints) -> Ints:
        """The ids' slots in the cache, which are their positions in the text as well (B, T)."""
        if is_grad_enabled() or self.training:
            raise InputError("cache: it keeps nothing for backward or dropout; use model.eval(), within no_grad()")
        return cache.next_slots(*ids.shape)

    def _checked(self, ids: Ints, what: str) -> Ints:
        """The ids on the model's device.  Their values are looked at on the host alone: no waiting for a GPU."""
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
        """Copy weights in by name; the book's mask buffers, which hold nothing to learn, are passed over.

        A tied head's one name is tok_emb.weight; an out_head.weight beside it must be its equal (InputError).
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
        """state_dict() with all that the book's PyTorch model has, so that it loads there with strict=True.

        That is, with its mask buffers, and with the head even where it is tied.
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
