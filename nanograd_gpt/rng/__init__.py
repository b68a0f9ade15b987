"""Floor 1: streams of random numbers that are passed in, seeded and saved; never a hidden global one."""

from .generator import Generator, RandomStream

__all__ = ["Generator", "RandomStream"]
