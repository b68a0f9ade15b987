"""Modules and functions for building networks, under PyTorch's names."""

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
