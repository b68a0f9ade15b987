"""Watching a computation: every operation, its backward, and the calls of modules around it.

The functions that all of them pass through are patched while somebody watches, and only then: at other times nothing is
checked, and nothing is paid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from itertools import count
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from .. import autograd, tensor
from ..autograd import Function, Gradient, Node
from ..backend.contract import Array
from ..gpt.kv_cache import LayerCache
from ..gpt.model import GPTModel
from ..nn.layers import Dropout
from ..nn.module import Module
from ..optim import AdamW
from ..watchers import WATCHERS

Recorded: TypeAlias = tuple[Array, Node | None]  # an operation's result and its node, as autograd.record returns them


class Call(NamedTuple):
    """One call of a module."""

    module: Module
    serial: int


class Watcher:
    """A base class of what watches: each method is called in place of a function, `run`, whose result it returns.

    A subclass overrides those that it needs; `run` takes the same arguments as the method after it.
    """

    def forward(
        self,
        run: Callable[..., Recorded],
        op: type[Function],
        arrays: Sequence[Any],
        parents: Sequence[Node | None],
        params: Mapping[str, Any],
    ) -> Recorded:
        """Run an operation."""
        return run(op, arrays, parents, params)

    def backward(self, run: Callable[..., Sequence[Gradient]], node: Function, dy: Array) -> Sequence[Gradient]:
        """Run an operation's backward for the gradient of its result."""
        return run(node, dy)

    def deliver(self, run: Callable[..., None], *arguments: Any) -> None:
        """Add a gradient that the last backward returned to that of its node."""
        run(*arguments)

    def call(self, run: Callable[..., Any], module: Module, *inputs: Any, **options: Any) -> Any:
        """Call a module; calls() has this call already."""
        return run(module, *inputs, **options)

    def other(self, run: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
        """Compute what is not an operation, such as an optimizer's step."""
        return run(name, *arguments, **options)


_calls: ContextVar[tuple[Call, ...]] = ContextVar("calls", default=())
_serials = count()
_lock = Lock()
_patches = ExitStack()
_n_watching = 0  # in all threads


def calls() -> tuple[Call, ...]:
    """The calls of modules around this line, outermost first; none where nobody watches."""
    return _calls.get()


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Call the watcher for what this thread or asyncio task computes in this block, within those that watch already."""
    _begin()
    token = WATCHERS.set((*WATCHERS.get(), watcher))
    try:
        yield
    finally:
        WATCHERS.reset(token)
        _end()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module or class in this block; afterwards it is as before, also where it was inherited."""
    is_own, own = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, own)
        else:
            delattr(owner, name)


def _begin() -> None:
    global _n_watching
    with _lock:
        if not _n_watching:
            for owner, name, function in _patched():
                _patches.enter_context(replaced(owner, name, function))
        _n_watching += 1


def _end() -> None:
    global _n_watching
    with _lock:
        _n_watching -= 1
        if not _n_watching:
            _patches.close()


def _patched() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Yield (owner, name, replacement) of every function that computations pass through."""
    yield tensor, "record", _watched_function(autograd.record, Watcher.forward)
    yield autograd, "input_grads", _watched_function(autograd.input_grads, Watcher.backward)
    yield autograd, "deliver", _watched_function(autograd.deliver, Watcher.deliver)
    for cls, name in (
        (Module, "__call__"),
        *((GPTModel, name) for name in ("loss", "hidden_states", "next_token_logits")),
    ):
        yield cls, name, _watched_call(getattr(cls, name))
    for owner, name, title in OTHERS:
        yield owner, name, _watched_other(getattr(owner, name), title)


OTHERS: list[tuple[type, str, str]] = [  # what takes time and is not an operation
    (Dropout, "keep_mask", "DropoutMask"),
    (LayerCache, "attention", "CachedAttention"),
    (AdamW, "step", "AdamW.step"),
]


def _watched_function(function: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def watched_function(*arguments: Any, **options: Any) -> Any:
        run = function
        for watcher in WATCHERS.get():
            run = partial(getattr(watcher, method.__name__), run)
        return run(*arguments, **options)

    return watched_function


def _watched_call(function: Callable[..., Any]) -> Callable[..., Any]:
    inner = _watched_function(function, Watcher.call)

    @wraps(function)
    def watched_call(module: Module, *inputs: Any, **options: Any) -> Any:
        if not WATCHERS.get():
            return function(module, *inputs, **options)
        token = _calls.set((*_calls.get(), Call(module, next(_serials))))
        try:
            return inner(module, *inputs, **options)
        finally:
            _calls.reset(token)

    return watched_call


def _watched_other(function: Callable[..., Any], title: str) -> Callable[..., Any]:
    inner = _watched_function(lambda _, *arguments, **options: function(*arguments, **options), Watcher.other)

    @wraps(function)
    def watched_other(*arguments: Any, **options: Any) -> Any:
        return inner(title, *arguments, **options)

    return watched_other
