"""Explicit streams of random numbers, which are seeded and saved, in place of a global generator."""

from .generator import Generator, RandomStream, checked_stream, index_at
from .torch_stream import TorchStream

__all__ = ["Generator", "RandomStream", "TorchStream", "checked_stream", "index_at"]
