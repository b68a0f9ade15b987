"""The module that an operation belongs to, by its path in a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..autograd import Node
from ..nn.module import Module, Parameter
from .watch import Call


class ModulePaths:
    """The modules and parameters of a model by their paths; its own path is ""."""

    def __init__(self, model: Module | None) -> None:
        self.modules = dict(_paths(model, "")) if model is not None else {}
        self.path_of = {id(module): path for path, module in self.modules.items()}
        self.names: dict[Node, str] = {}  # of parameters
        self.owners: dict[Node, list[str]] = {}  # the modules of each parameter: several if it is tied
        for path, module in self.modules.items():
            for name, part in module.named_children():
                if isinstance(part, Parameter) and part.node is not None:
                    self.names.setdefault(part.node, joined(path, name))
                    self.owners.setdefault(part.node, []).append(path)

    def caller(self, calls: Sequence[Call]) -> str:
        """The path of the innermost module that is being called."""
        return next((self.path_of[id(c.module)] for c in reversed(calls) if id(c.module) in self.path_of), "")

    def of_operation(self, parents: Sequence[Node | None], calls: Sequence[Call]) -> str:
        """The path of the module of an operation with these inputs.

        An operation on parameters belongs to their module, even if the module was not called.
        """
        path = self.caller(calls)
        owners = [self.owners[parent] for parent in parents if parent in self.owners]
        if not owners:
            return path
        inner = _common([path if path in paths else paths[-1] for paths in owners])
        return inner if is_inside(inner, path) else path


def is_inside(path: str, outer: str) -> bool:
    """Whether a module is `outer` itself or a part of it."""
    return not outer or f"{path}.".startswith(f"{outer}.")


def joined(path: str, name: str) -> str:
    """The path of a part of a module, from the module's path and the part's name."""
    return f"{path}.{name}" if path else name


def _paths(module: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """Yield a module and all its descendants with their paths; its own is "" at the root."""
    yield prefix, module
    for name, part in module.named_children():
        if isinstance(part, Module):
            yield from _paths(part, joined(prefix, name))


def _common(paths: Sequence[str]) -> str:
    """The path of the module around all of them."""
    common = []
    for parts in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
