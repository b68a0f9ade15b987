"""Initial weights of a run: which sizes may differ from the model's, and their transfer."""

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
    """Raise InputError if a model with the given settings cannot start from these weights; ignores other settings.

    drop_rate may differ, and the context may be shorter: then the first positions' embeddings are used.
    """
    for name, own in weights.to_dict().items():
        value = given.get(name, own)
        if name == "context_length" and isinstance(value, int) and value > own:
            raise InputError(f"context_length: {value} is longer than the weights'; choose 1 .. {own}")
        if name not in ("context_length", "drop_rate") and value != own:
            raise InputError(f"{name}: {value} differs from the weights', which is {own}; leave it out")


def transfer_weights(source: GPTModel, target: GPTModel) -> None:
    """Copy one model's weights into another, truncated to its context.  Raises InputError: see check_sizes."""
    check_sizes(source.config, target.config.to_dict())
    state = source.state_dict()
    state["pos_emb.weight"] = state["pos_emb.weight"][: target.config.context_length]
    target.load_state_dict(state)


def weights_hash(model: GPTModel) -> str:
    """Return a SHA-256 over all weights and their names."""
    digest = sha256()
    for name, array in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_host(array)).data)
    return digest.hexdigest()
