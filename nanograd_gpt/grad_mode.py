"""Grad mode: whether operations are recorded in a graph, per thread and per asyncio task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


@overload
def no_grad() -> contextlib._GeneratorContextManager[None]: ...


@overload
def no_grad(function: Callable[P, R]) -> Callable[P, R]: ...


def no_grad(function: Callable[P, R] | None = None) -> contextlib._GeneratorContextManager[None] | Callable[P, R]:
    """Disable graph recording in a block, or in a function as its decorator: @no_grad() or @no_grad.

    Applies to the current thread or asyncio task; threads started inside do record, as in PyTorch.
    """
    return _not_recorded() if function is None else _not_recorded()(function)


@contextlib.contextmanager
def _not_recorded() -> Iterator[None]:
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def is_grad_enabled() -> bool:
    """Whether operations are recorded: False inside no_grad()."""
    return _grad_enabled.get()


@contextlib.contextmanager
def enable_grad() -> Iterator[None]:
    """Enable graph recording in a block, also within no_grad()."""
    token = _grad_enabled.set(True)
    try:
        yield
    finally:
        _grad_enabled.reset(token)
