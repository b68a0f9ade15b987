"""Modules and functions for building networks, under PyTorch's names."""

import sys
from typing import TYPE_CHECKING, Any

from ..pytorch_names import NN, missing_name
from . import functional
from .layers import GELU, Dropout, Embedding, LayerNorm, Linear, ReLU
from .module import Module, Parameter, Sequential

__all__ = [
    "GELU",
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "functional",
]


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        raise missing_name(sys.modules[__name__], name, NN)
