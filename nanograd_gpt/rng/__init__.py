"""Explicit streams of random numbers, seeded and saved; there is no global generator."""

from .generator import Generator, RandomStream, checked_stream, index_at
from .torch_stream import TorchStream

__all__ = ["Generator", "RandomStream", "TorchStream", "checked_stream", "index_at"]
