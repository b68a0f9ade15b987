"""The modules of a drawn graph: which of them are closed boxes, and what is inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..autograd import Node
from ..errors import InputError, did_you_mean
from ..nn.module import Module, Sequential
from ..tape.module_paths import ModulePaths, is_inside
from ..tape.watch import Call


class Box(NamedTuple):
    """A closed module: its path, and the call of it or the operation on its parameters."""

    path: str
    call: int | Node


class ModuleTree(ModulePaths):
    """The modules and parameters of a model by their paths.

    The model itself, Sequential modules, those in `opened` and the modules around them are open.
    """

    def __init__(self, model: Module | None, opened: Sequence[str]) -> None:
        super().__init__(model)
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
        path = self.of_operation(node.parents, calls)
        parts = path.split(".") if path else []
        around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        closed = next((outer for outer in around if outer in self.modules and outer not in self.open), None)
        return None if closed is None else Box(closed, serials.get(closed, node))

    def holds(self, box: Box, parameter: Node) -> bool:
        """Whether a parameter is one of the box's module, and so drawn inside it."""
        return any(is_inside(owner, box.path) for owner in self.owners.get(parameter, ()))
