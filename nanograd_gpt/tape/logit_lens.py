"""The logit lens (nostalgebraist 2020): what the model would predict if it ended after each block."""

from __future__ import annotations

import numpy as np

from ..backend.contract import HostArray
from ..backend.select import to_host
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..nn.token_ids import TokenIds
from ..tensor import Tensor
from .recorder import record


def logit_lens(model: GPTModel, ids: TokenIds) -> HostArray:
    """ids (B, T)  ->  logits (L, B, T, V), on the host: final norm and head on the residual stream after each block

    The last ones are the model's own.  It runs without dropout, and its mode is restored afterwards.
    Raises InputError for ids that are not (B, T), too long, or out of range.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> logit_lens(model, [[1, 2, 3]]).argmax(-1)[:, 0].tolist()  # the most likely next tokens, after each block
    [[82, 24, 22], [49, 10, 80]]
    """
    with inference_mode(model):
        with record(values=["residual"]) as tape:
            model.hidden_states(ids)
        stream = [tape[f"trf_blocks.{i}.residual"].value for i in range(model.config.n_layers)]
        return np.stack([to_host(model.out_head(model.final_norm(Tensor(x))).data) for x in stream])
