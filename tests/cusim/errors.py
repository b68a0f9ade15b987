"""The simulator's error."""

from __future__ import annotations


class SimulatorError(RuntimeError):
    """A kernel that does not compile, cannot be launched as it was, or does what a GPU leaves undefined."""
