"""Write cupy_api.json, the public surface of the installed CuPy: what the stand-in enforces where CuPy is absent.

Run it as `python tests/standin/write_cupy_api.py` in an environment with CuPy and NCCL; no GPU is needed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy

TABLE = Path(__file__).with_name("cupy_api.json")

SECTIONS = (
    "cupy",
    "cupy.RawKernel",
    "cupy.RawModule",
    "cupy.ndarray",
    "cupy.cuda",
    "cupy.cuda.Device",
    "cupy.cuda.Event",
    "cupy.cuda.MemoryPool",
    "cupy.cuda.Stream",
    "cupy.cuda.memory",
    "cupy.cuda.nccl",
    "cupy.cuda.nccl.NcclCommunicator",
    "cupy.cuda.nvrtc",
    "cupy.cuda.runtime",
    "cupy.exceptions",
    "cupy.lib",
    "cupy.lib.stride_tricks",
    "cupy.linalg",
    "cupy.random",
    "cupy.random.Generator",
    "cupyx",
)
NUMPY_TWINS = {"cupy": numpy, "cupy.exceptions": numpy.exceptions, "cupy.linalg": numpy.linalg}
BY_IMPORT = {"cupy.cuda": ["nccl"]}  # an attribute only once it has been imported by its own name
LAZY = {"cupy.random": ["Generator"]}  # made by the module's __getattr__, so dir() does not show it
UFUNC_METHODS = ("accumulate", "at", "outer", "reduce", "reduceat")
KINDS = "buifc"  # of dtypes, from narrow to wide


def main() -> None:
    TABLE.write_text(text_of(read_installed()), encoding="utf-8")


def read_installed() -> dict[str, Any]:
    """The table of the CuPy that is installed here."""
    import cupy
    from cupy.cuda import nccl

    sections = [section for section in SECTIONS if nccl.available or not section.startswith(nccl.__name__)]
    names = {section: dict(entries_of(section)) for section in sections}
    return {"cupy_version": cupy.__version__, "numpy_version": numpy.__version__, "names": names}


def text_of(table: dict[str, Any]) -> str:
    """The table as JSON with one entry a line, so that the next version's diff can be read."""
    lines = ["{", *(f'"{key}": {json.dumps(table[key])},' for key in ("cupy_version", "numpy_version")), '"names": {']
    for i, (section, entries) in enumerate(table["names"].items()):
        rows = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items())]
        lines += [f'"{section}": {{', *(row + "," for row in rows[:-1]), rows[-1]]
        lines += ["}," if i < len(table["names"]) - 1 else "}"]
    return "\n".join([*lines, "}", "}", ""])


def entries_of(section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    owner = resolve(section)
    for name in sorted({*dir(owner), *LAZY.get(section, [])} - {*BY_IMPORT.get(section, [])}):
        special = name.startswith("_")
        if special and not (section == "cupy.ndarray" and name.endswith("__") and "pyx" not in name):
            continue
        value = getattr(owner, name)
        numpys = getattr(NUMPY_TWINS.get(section), "__dict__", {}).get(name)
        yield name, {"kind": "special"} if special else entry_of(owner, name, value, numpys)


def resolve(dotted: str) -> Any:
    """The module or class of a dotted name."""
    head, *rest = dotted.split(".")
    value: Any = importlib.import_module(head)
    for part in rest:
        value = getattr(value, part)
    return value


def entry_of(owner: object, name: str, value: Any, numpys: object) -> dict[str, Any]:
    kind = kind_of(owner, name, value)
    entry: dict[str, Any] = {"kind": kind}
    if kind in ("function", "type") and numpys is value:
        entry["numpys_own"] = True
    if kind == "ufunc":
        entry["signature"] = ufunc_signature(value)
        entry["methods"] = [method for method in UFUNC_METHODS if has_method(value, method)]
        entry["widest"] = max((numpy.dtype(types[0]).kind for types in value.types), key=KINDS.find)
    elif kind == "function" and (signature := signature_of(value, name)):
        entry["signature"] = signature
    if kind == "function" and re.search(r"(may|can) synchronize|synchronizes the (device|host)", value.__doc__ or ""):
        entry["synchronises"] = True
    return entry


def kind_of(owner: object, name: str, value: object) -> str:
    if isinstance(value, type):
        return "type"
    if isinstance(value, ModuleType):
        return "submodule"
    if type(value).__name__ == "ufunc":
        return "ufunc"
    if isinstance(owner, type):  # a property read from its class gives the property itself, a method can be called
        return "function" if callable(value) else "attribute"
    return "function" if callable(value) else "constant"


def has_method(ufunc: Any, method: str) -> bool:
    """Whether this ufunc implements a method: CuPy gives every ufunc all of them, and most refuse when called."""
    try:
        getattr(ufunc, method)(*[object()] * (2 if method in ("at", "reduceat", "outer") else 1))
    except NotImplementedError:
        return False
    except Exception:  # it began to work on the argument: there is no GPU to go further
        return True
    return True


def ufunc_signature(ufunc: Any) -> str:
    inputs = ["x"] if ufunc.nin == 1 else [f"x{i + 1}" for i in range(ufunc.nin)]
    outputs = ["/", "out=None", "*"] if ufunc.nout == 1 else [f"out{i + 1}=None" for i in range(ufunc.nout)]
    if ufunc.nout > 1:
        outputs += ["/", "*", "out=None"]
    return f"({', '.join([*inputs, *outputs, 'casting=None', 'dtype=None'])})"


def signature_of(function: Callable[..., Any], name: str) -> str | None:
    """'(a, axis=None)', from Python's signature or from the first line of a docstring; None where neither tells."""
    first_line = (function.__doc__ or "").strip().split("\n")[0]
    documented = re.match(rf"(?:\w+\.)?{name}\((.*?)\)(?: ->.*)?$", first_line)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return plain(documented[1]) if documented else None
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    if documented and any(p.kind is p.VAR_KEYWORD for p in parameters):
        return plain(documented[1])  # einsum(*operands, **kwargs) tells its keywords in words only
    bare = [p.replace(annotation=p.empty, default=default_of(p)) for p in parameters]
    return str(inspect.Signature(bare))


def default_of(parameter: inspect.Parameter) -> Any:
    """A default that prints as Python source: only whether there is one matters."""
    simple = isinstance(parameter.default, (bool, int, float, str, tuple, type(None)))
    return parameter.default if simple or parameter.default is parameter.empty else None


def plain(parameters: str) -> str:
    """Cython's parameters without 'self' and the C types: 'self, int axis=-1' -> '(axis=-1)'."""
    untyped = [re.sub(r"^\w+ (?=\w)", "", p.strip()) for p in parameters.split(",")]
    return f"({', '.join(p for p in untyped if p and p != 'self')})"


if __name__ == "__main__":
    main()
