"""The samples that PyTorch keeps of its operations, where they have a counterpart here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

from .pytorch_counterparts import OURS

INFO = {name: [info for info in op_db if info.name == name] for name in OURS}  # its variants


def samples_of(name: str) -> Iterator[tuple[Any, Any]]:
    """Each variant with each of its samples: those of `sample_inputs` are all among the reference inputs."""
    for info in INFO[name]:
        yield from ((info, sample) for sample in info.reference_inputs("cpu", torch.float64, requires_grad=False))


def each_part(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: function(part) for name, part in value.items()}
    if isinstance(value, list):
        return [function(part) for part in value]
    return tuple(map(function, value)) if isinstance(value, tuple) else value
