"""Explicit streams of random numbers, which are seeded and saved, in place of a global generator."""

from .generator import ALL, Generator, Part, RandomStream, checked_stream, index_at
from .torch_stream import TorchStream

__all__ = ["ALL", "Generator", "Part", "RandomStream", "TorchStream", "checked_stream", "index_at"]
