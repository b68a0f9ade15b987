"""The kernels of a backend's .cu files, read from text: CuPy is not needed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
BOUNDS = r"__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)"  # arguments may hold brackets of their own
KERNEL = re.compile(rf"__global__\s+(?:void\s+|static\s+|{BOUNDS}\s*)*(\w+)\s*\(")


def instantiations(folder: Path) -> dict[Path, list[str]]:
    """The kernels named by every `Source("file.cu", "kernel<float>", ...)` in the folder's modules, by file.

    Names may be computed from literals and the module's own constants.
    """
    named: dict[Path, list[str]] = {}
    for module in sorted(folder.rglob("*.py")):
        for file, *names in _sources(module):
            known = named.setdefault(module.parent / file, [])
            known += [name for name in names if name not in known]
    return named


def _sources(module: Path) -> Iterator[tuple[str, ...]]:
    """The arguments of each Source in a module."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    constants = dict(_constants(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "Source":
            arguments = ast.copy_location(ast.Tuple(node.args, ast.Load()), node)
            code = compile(ast.Expression(arguments), str(module), "eval")
            try:
                yield eval(code, {"__builtins__": {}, **constants})
            except NameError as error:
                raise ValueError(
                    f"{module.name}:{node.lineno}: Source is given what only running the module tells ({error});"
                    " write its kernels with literals and constants of the module"
                ) from None


def _called(call: ast.Call) -> str | None:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)


def _constants(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            try:
                yield ast.unparse(target), ast.literal_eval(node.value)
            except ValueError:
                continue  # computed: a Source that uses it is refused with its line


def declared(text: str) -> set[str]:
    """The names of all `__global__` functions of a .cu text."""
    text = COMMENT.sub(" ", text)
    names = KERNEL.findall(text)
    if len(names) != len(re.findall(r"\b__global__\b", text)):
        raise ValueError(f"a __global__ here is not followed by bounds, a name and '('; read were {names}")
    return set(names)


def base(instantiation: str) -> str:
    """The kernel's name in "adamw<float>"."""
    return instantiation.partition("<")[0].strip().rpartition("::")[2]
