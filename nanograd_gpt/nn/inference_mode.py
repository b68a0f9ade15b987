"""Inference mode: no dropout and no graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..grad_mode import no_grad
from .module import Module


@contextlib.contextmanager
def inference_mode(model: Module) -> Iterator[None]:
    """Disable dropout and graph recording in this block; each module's mode is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
