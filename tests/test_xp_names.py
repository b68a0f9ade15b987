"""Names and keywords that a formula asks of `xp` are in NumPy and in CuPy alike: found without running it."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from standin import write_cupy_api
from standin.api import TABLE, Api, api, read

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nanograd_gpt"
UFUNC_KEYWORDS = {"axes", "axis", "casting", "dtype", "keepdims", "order", "out", "signature", "subok", "where"}


@dataclass(frozen=True)
class Use:
    """`xp.linalg.norm(x, axis=-1)` is Use(line, "linalg.norm", 1, ("axis",)); without a call, arguments is None."""

    line: int
    name: str
    arguments: int | None
    keywords: tuple[str, ...]
    in_numpy: bool  # False where the module says `import cupy`: then it need not be in NumPy


def problems(source: str, path: str = "snippet.py", table: Api | None = None) -> list[str]:
    """'file:line: message' for each use of the array library that NumPy or CuPy does not offer."""
    found = []
    for use in uses(source):
        messages = [of_cupy(use, table or api()), of_numpy(use) if use.in_numpy else None]
        found += [f"{path}:{use.line}: {message}" for message in messages if message]
    return found


def uses(source: str) -> Iterator[Use]:
    tree = ast.parse(source)
    names = roots(tree)
    nodes = list(ast.walk(tree))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    calls = {id(node.func): node for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            parts, in_numpy = path_from(node, names)
            if parts:
                yield use_of(node.lineno, ".".join(parts), calls.get(id(node)), in_numpy)


def roots(tree: ast.Module) -> dict[str, bool]:
    """The names that mean the array library, and whether what is asked of them must be in NumPy too."""
    names = {"xp": True}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import) else []:
            if alias.name == "cupy":
                names[alias.asname or "cupy"] = False
            elif alias.name == "numpy" and alias.asname == "xp":
                del names["xp"]  # mypy knows NumPy's names
    return names


def path_from(node: ast.expr, names: dict[str, bool]) -> tuple[list[str], bool]:
    """(["linalg", "norm"], True) for the norm of xp.linalg, kernels.xp.linalg, array_namespace(x).linalg; else []."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr == "xp" and parts:
            return parts[::-1], True
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return parts[::-1], names[node.id]
    is_namespace = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "array_namespace"
    return (parts[::-1] if is_namespace else []), True


def use_of(line: int, name: str, call: ast.Call | None, in_numpy: bool) -> Use:
    if call is None:
        return Use(line, name, None, (), in_numpy)
    keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg)
    spread = any(isinstance(arg, ast.Starred) for arg in call.args) or len(keywords) < len(call.keywords)
    return Use(line, name, None if spread else len(call.args), keywords, in_numpy)


def of_cupy(use: Use, table: Api) -> str | None:
    missing = table.missing(use.name)
    if missing:
        return f"CuPy has no {missing}"
    entry = table.entry(use.name)
    if entry is None or entry.kind == "type" or entry.signature is None:
        return None
    return refusal(f"cupy.{use.name}", entry.signature, use)


def of_numpy(use: Use) -> str | None:
    value: object = np
    for part in use.name.split("."):
        value = getattr(value, part, None)
        if value is None and use.name != "newaxis":
            return f"NumPy has no numpy.{use.name}"
    if isinstance(value, np.ufunc):
        unknown = sorted(set(use.keywords) - UFUNC_KEYWORDS)
        return f"numpy.{use.name}: got an unexpected keyword argument {unknown[0]!r}" if unknown else None
    try:
        return None if isinstance(value, type) else refusal(f"numpy.{use.name}", inspect.signature(value), use)  # type: ignore[arg-type]  # else TypeError
    except (TypeError, ValueError):
        return None  # written in C, and NumPy does not tell its arguments


def refusal(name: str, signature: inspect.Signature, use: Use) -> str | None:
    """Why a call with these arguments would raise TypeError; where they are not all known, the keywords alone count."""
    keywords = dict.fromkeys(use.keywords)
    try:
        if use.arguments is None:
            signature.bind_partial(**keywords)
        else:
            signature.bind(*[None] * use.arguments, **keywords)
    except TypeError as error:
        return f"{name}: {error}"
    return None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_asks_only_for_what_both_libraries_have(path: Path) -> None:
    found = problems(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("snippet", "message"),
    [
        ("xp.vecdot(a, b)", "CuPy has no cupy.vecdot"),
        ("xp.errstate(all='ignore')", "CuPy has no cupy.errstate"),
        ("xp.asnumpy(a)", "NumPy has no numpy.asnumpy"),
        ("xp.linalg.vector_norm(a)", "CuPy has no cupy.linalg.vector_norm"),
        ("xp.maximum.reduce(a)", "CuPy has no cupy.maximum.reduce"),
        ("xp.sum(a, where=m)", "cupy.sum: got an unexpected keyword argument 'where'"),
        ("xp.max(a, initial=0)", "cupy.max: got an unexpected keyword argument 'initial'"),
        ("xp.exp(a, where=m)", "cupy.exp: got an unexpected keyword argument 'where'"),
        ("xp.clip(a, min=0)", "cupy.clip: missing a required argument: 'a_min'"),
        ("xp.take(a, i, 0, None, 'clip')", "cupy.take: too many positional arguments"),
        ("xp.einsum('ij->i', a, out=b)", "cupy.einsum: got an unexpected keyword argument 'out'"),
        ("xp.argmax(a, dtype=int)", "numpy.argmax: got an unexpected keyword argument 'dtype'"),
        ("self.kernels.xp.expp(a)", "CuPy has no cupy.expp"),
        ("array_namespace(a).expp(a)", "CuPy has no cupy.expp"),
        ("f = xp.expp", "CuPy has no cupy.expp"),
        ("import cupy as cp\ncp.expp(a)", "CuPy has no cupy.expp"),
        ("import cupy\ncupy.cuda.Devices(0)", "CuPy has no cupy.cuda.Devices"),
        ("import cupy as xp\nxp.sum(a, *b, where=m)", "cupy.sum: got an unexpected keyword argument 'where'"),
    ],
)
def test_a_name_or_keyword_that_one_library_lacks_is_reported_with_its_line(snippet: str, message: str) -> None:
    found = problems(f"\n{snippet}")
    assert any(line.endswith(f": {message}") for line in found), found
    assert all(line.startswith(f"snippet.py:{2 + snippet.count(chr(10))}: ") for line in found)


@pytest.mark.parametrize(
    "snippet",
    [
        "xp.where(a > 0, a, -xp.inf)",
        "xp.matmul(a, b, out=c)",
        "xp.add.at(a, i, b)",
        "xp.sum(a, axis=-1, keepdims=True)",
        "xp.empty((2, 3), dtype=xp.float32)",
        "xp.linalg.norm(a, axis=0)",
        "a[:, xp.newaxis]",
        "xp.exp(a).sum(where=m)",  # an array's method: only running it can tell
        "np.errstate(all='ignore')",
        "import numpy as xp\nxp.errstate(all='ignore')",
        "import cupy\ncupy.asnumpy(cupy.cuda.Stream.null.synchronize())",
    ],
)
def test_what_both_libraries_have_is_passed(snippet: str) -> None:
    assert problems(snippet) == []


def test_each_use_is_reported_once() -> None:
    assert len(problems("xp.linalg.nope.deeper(a)")) == 2  # once for NumPy, once for CuPy


@pytest.mark.filterwarnings("default")
def test_the_committed_table_agrees_with_an_installed_cupy() -> None:
    pytest.importorskip("cupy", exc_type=ImportError)
    installed = write_cupy_api.read_installed()
    committed = json.loads(TABLE.read_text(encoding="utf-8"))
    if all(installed[key] == committed[key] for key in ("cupy_version", "numpy_version")):
        there = {section: committed["names"][section] for section in installed["names"]}  # NCCL may be missing
        assert write_cupy_api.text_of(installed) == write_cupy_api.text_of({**committed, "names": there})
    for path in PACKAGE.rglob("*.py"):
        assert problems(path.read_text(encoding="utf-8"), str(path), read(installed)) == []
