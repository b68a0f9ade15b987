"""The modules of a drawn graph: which of them are closed boxes, and what is inside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..autograd import Node
from ..errors import InputError, did_you_mean
from ..nn.module import Module, Parameter, Sequential
from .graph_record import Call


class Box(NamedTuple):
    """A closed module: its path, and the call of it or the operation on its parameters."""

    path: str
    call: int | Node


class ModuleTree:
    """The modules and parameters of a model by their paths.

    The model itself, Sequential modules, those in `opened` and the modules around them are open.
    """

    def __init__(self, model: Module | None, opened: Sequence[str]) -> None:
        self.modules = dict(_paths(model, "")) if model is not None else {}
        self.path_of = {id(module): path for path, module in self.modules.items()}
        self.names: dict[Node, str] = {}  # of parameters
        self.owners: dict[Node, list[str]] = {}  # the modules of each parameter: several if it is tied
        for path, module in self.modules.items():
            for name, part in module.named_children():
                if isinstance(part, Parameter) and part.node is not None:
                    self.names.setdefault(part.node, _joined(path, name))
                    self.owners.setdefault(part.node, []).append(path)
        for path in opened:
            if not self.modules.keys() - {""}:
                raise InputError(f"opened: {path!r} needs a model with modules; pass it as model=")
            if path not in self.modules:
                hint = did_you_mean(path, [known for known in self.modules if known])
                raise InputError(f"opened: {path!r} is not a module of this {type(model).__name__}{hint}")
        self.open = {
            path
            for path, module in self.modules.items()
            if isinstance(module, Sequential) or not path or any(is_inside(other, path) for other in opened)
        }

    def box_of(self, node: Node, calls: Sequence[Call]) -> Box | None:
        """The outermost closed module around an operation; None if the operation itself is drawn."""
        serials = {self.path_of[id(c.module)]: c.serial for c in calls if id(c.module) in self.path_of}
        path = next(reversed(serials), "")
        owners = [self.owners[parent] for parent in node.parents if parent in self.owners]
        if owners:  # an operation on parameters belongs to their module, even if the module was not called
            inner = _common([path if path in paths else paths[-1] for paths in owners])
            path = inner if is_inside(inner, path) else path
        parts = path.split(".") if path else []
        around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        closed = next((outer for outer in around if outer in self.modules and outer not in self.open), None)
        return None if closed is None else Box(closed, serials.get(closed, node))

    def holds(self, box: Box, parameter: Node) -> bool:
        """Whether a parameter is one of the box's module, and so drawn inside it."""
        return any(is_inside(owner, box.path) for owner in self.owners.get(parameter, ()))


def is_inside(path: str, outer: str) -> bool:
    """Whether a module is `outer` itself or a part of it."""
    return not outer or f"{path}.".startswith(f"{outer}.")


def _paths(module: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """Yield a module and all its descendants with their paths; its own is "" at the root."""
    yield prefix, module
    for name, part in module.named_children():
        if isinstance(part, Module):
            yield from _paths(part, _joined(prefix, name))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _common(paths: Sequence[str]) -> str:
    """The path of the module around all of them."""
    common = []
    for parts in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
