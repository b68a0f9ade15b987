"""Streams of random numbers that are passed in, seeded and saved; never a hidden global one."""

from .generator import Generator, RandomStream, checked_stream
from .torch_stream import TorchStream

__all__ = ["Generator", "RandomStream", "TorchStream", "checked_stream"]
