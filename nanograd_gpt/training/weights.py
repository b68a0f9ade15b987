"""Weights that a training begins from: which sizes may be changed, and how they get into the run's model."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from ..backend.select import to_host
from ..errors import InputError
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel


def check_sizes(weights: GPTConfig, given: Mapping[str, Any]) -> None:
    """Raise InputError if a model with these settings cannot begin from such weights; settings that are no size pass.

    Dropout is free, and a context may be shorter: then the first positions' embeddings are kept.
    """
    for name, own in weights.to_dict().items():
        value = given.get(name, own)
        if name == "context_length" and isinstance(value, int) and value > own:
            raise InputError(f"context_length: {value} is longer than the weights'; choose 1 .. {own}")
        if name not in ("context_length", "drop_rate") and value != own:
            raise InputError(f"{name}: {value} is not the weights', which is {own}; leave it out")


def transfer_weights(source: GPTModel, target: GPTModel) -> None:
    """Copy one model's weights into another, cut to its context.  Raises InputError: see check_sizes."""
    check_sizes(source.config, target.config.to_dict())
    state = source.state_dict()
    state["pos_emb.weight"] = state["pos_emb.weight"][: target.config.context_length]
    target.load_state_dict(state)


def weights_hash(model: GPTModel) -> str:
    """A SHA-256 of every weight and its name."""
    digest = sha256()
    for name, array in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_host(array)).data)
    return digest.hexdigest()
