"""The attention weights of every head."""

from __future__ import annotations

import numpy as np

from ..backend.contract import HostArray
from ..backend.select import to_host
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..nn.token_ids import TokenIds
from .recorder import record


def attention_weights(model: GPTModel, ids: TokenIds) -> HostArray:
    """ids (B, T)  ->  attention weights (L, B, H, T, T), on the host; each row sums to 1

    Row q of a head says how much position q takes from each position up to its own.  The model runs without dropout,
    and its mode is restored afterwards.  Raises InputError for ids that are not (B, T), too long, or out of range.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> weights = attention_weights(model, [[1, 2, 3]])
    >>> weights.shape
    (2, 1, 2, 3, 3)
    >>> weights[1, 0, 0].round(2)  # head 0 of block 1
    array([[1.  , 0.  , 0.  ],
           [0.51, 0.49, 0.  ],
           [0.31, 0.26, 0.43]], dtype=float32)
    """
    with inference_mode(model), record(values=["attention"]) as tape:
        model.hidden_states(ids)
    blocks = range(model.config.n_layers)
    return np.stack([to_host(tape[f"trf_blocks.{i}.att.weights"].value) for i in blocks])
