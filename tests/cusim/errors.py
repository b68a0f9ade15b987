"""The simulator's errors."""

from __future__ import annotations


class SimulatorError(RuntimeError):
    """A kernel that cannot be launched as it was, or that does what a GPU leaves undefined."""


class CompilerError(SimulatorError):
    """A text that does not compile, or that the simulator cannot run."""
