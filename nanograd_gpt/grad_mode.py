"""Grad mode: whether operations are recorded in a graph, per thread and per asyncio task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Disable graph recording in this block.  Also a decorator.

    Applies to the current thread or asyncio task; threads started inside do record, as in PyTorch.
    """
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations are recorded: False inside no_grad()."""
    return _grad_enabled.get()
