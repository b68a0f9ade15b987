"""Attribution of a prediction to the tokens before it: gradient times input (Shrikumar et al. 2016)."""

from __future__ import annotations

import numpy as np

from ..arguments import whole_number
from ..backend.contract import HostArray
from ..backend.select import kernels_of, to_host
from ..errors import InputError
from ..gpt.model import GPTModel
from ..grad_mode import enable_grad
from ..nn import functional as F
from ..nn.inference_mode import inference_mode
from ..nn.token_ids import TokenIds, as_ids
from .token_vectors import TokenVectors
from .watch import watched


def token_attribution(model: GPTModel, ids: TokenIds, position: int) -> HostArray:
    """ids (B, T)  ->  the attribution (B, T) of the token at `position` to each token before it, on the host

    position            int in 1 .. T - 1: the token whose log-probability, given those before it, is explained

    An attribution is the sum over channels of the token embedding, without that of its position, times its gradient:
    the slope of the log-probability as the embedding is scaled.  It is 0 from `position` on, since the model does not
    see those tokens.  The model runs without dropout; its mode, its gradients and its random stream are left alone.
    Raises InputError for ids that are not (B, T), too long, or out of range, and for another position.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> token_attribution(model, [[1, 2, 3, 4]], position=3).round(3)
    array([[ 0.012, -0.053,  0.016,  0.   ]], dtype=float32)
    """
    ids = model.checked_ids(as_ids(ids), "ids")
    B, T = ids.shape
    if T < 2:
        raise InputError(f"ids: shape {ids.shape} has no token with others before it; give T >= 2 tokens")
    position = whole_number("position", position, 1, T - 1, f"1 .. {T - 1}, a token of {T} with others before it")
    inputs = TokenVectors(model)
    with inference_mode(model), enable_grad(), watched(inputs):
        x = model.hidden_states(ids[:, :position])[:, -1]  # (B, C)
        log_probabilities = F.log_softmax(model.out_head(x))  # (B, V)
        log_probabilities[kernels_of(ids).xp.arange(B), ids[:, position]].sum().backward()
    vectors, gradient = inputs.vectors, inputs.leaf.grad
    attribution = np.zeros((B, T), dtype=vectors.dtype)
    attribution[:, :position] = to_host((vectors * gradient).sum(axis=-1))
    return attribution
