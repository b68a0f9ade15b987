"""Grad mode: whether operations are recorded in a graph, a setting of the thread, or of the asyncio task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Disable graph recording in this block.  Also a decorator.

    It holds for the thread that enters it, and the asyncio task; a thread started within records, as in PyTorch.
    """
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations are recorded: not inside no_grad()."""
    return _grad_enabled.get()
