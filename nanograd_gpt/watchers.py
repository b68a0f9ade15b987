"""Those who watch the computations of this thread or asyncio task, such as a tape."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

WATCHERS: ContextVar[tuple[Any, ...]] = ContextVar("watchers", default=())


def is_watched() -> bool:
    """Whether somebody watches, and so would miss what runs without Python."""
    return bool(WATCHERS.get())
