"""CuPy's public API from the committed table: its names, and the arguments of each."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("cupy_api.json")


@dataclass(frozen=True)
class Entry:
    """One public name of CuPy's; write_cupy_api.py says how each field is found."""

    name: str  # 'cupy.linalg.norm'
    kind: str  # function, ufunc, type, constant, submodule, attribute, special
    signature_text: str | None  # None: any arguments
    methods: tuple[str, ...]  # of a ufunc
    widest: str  # of a ufunc: the widest kind of dtype that it takes
    numpys_own: bool  # the very object that NumPy has
    synchronises: bool  # its documentation says that the host waits

    @cached_property
    def signature(self) -> inspect.Signature | None:
        return None if self.signature_text is None else parse_signature(self.signature_text)

    def check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by CuPy's names.  Raises TypeError for a call that CuPy would refuse."""
        if self.signature is None:
            return {}
        try:
            return self.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None


def parse_signature(text: str) -> inspect.Signature:
    """'(a, /, axis=None, *, out=None)' as a Signature; of a default, only that there is one is kept."""
    arguments = ast.parse(f"lambda {text[1:-1]}: 0", mode="eval").body
    assert isinstance(arguments, ast.Lambda)
    a, P = arguments.args, inspect.Parameter
    positional: list[tuple[str, Any]] = [(arg.arg, P.POSITIONAL_ONLY) for arg in a.posonlyargs]
    positional += [(arg.arg, P.POSITIONAL_OR_KEYWORD) for arg in a.args]
    first_default = len(positional) - len(a.defaults)
    parameters = [P(n, k, default=None if i >= first_default else P.empty) for i, (n, k) in enumerate(positional)]
    parameters += [P(a.vararg.arg, P.VAR_POSITIONAL)] if a.vararg else []
    for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        parameters.append(P(arg.arg, P.KEYWORD_ONLY, default=P.empty if default is None else None))
    parameters += [P(a.kwarg.arg, P.VAR_KEYWORD)] if a.kwarg else []
    return inspect.Signature(parameters)


@dataclass(frozen=True)
class Api:
    cupy_version: str
    numpy_version: str
    names: dict[str, dict[str, Entry]]  # section ('cupy', 'cupy.ndarray', ...) -> name -> entry

    def missing(self, dotted: str) -> str | None:
        """The part of a name that CuPy lacks, such as 'cupy.linalg.nrm'; None if it has all of it."""
        section, entry = "cupy", None
        for part in dotted.split("."):
            if entry is not None and entry.kind == "ufunc":
                return None if part in entry.methods else f"{section}.{part}"
            if section not in self.names:
                return None  # inside a type or submodule that the table does not list
            entry = self.names[section].get(part)
            if entry is None:
                return f"{section}.{part}"
            section = f"{section}.{part}"
        return None

    def entry(self, dotted: str) -> Entry | None:
        section, _, name = f"cupy.{dotted}".rpartition(".")
        return self.names.get(section, {}).get(name)


def read(table: dict[str, Any]) -> Api:
    """The table as write_cupy_api.py makes it, as entries."""
    names = {
        section: {name: entry_of(f"{section}.{name}", fields) for name, fields in entries.items()}
        for section, entries in table["names"].items()
    }
    return Api(table["cupy_version"], table["numpy_version"], names)


def entry_of(name: str, fields: dict[str, Any]) -> Entry:
    return Entry(
        name=name,
        kind=fields["kind"],
        signature_text=fields.get("signature"),
        methods=tuple(fields.get("methods", ())),
        widest=fields.get("widest", ""),
        numpys_own=fields.get("numpys_own", False),
        synchronises=fields.get("synchronises", False),
    )


@cache
def api() -> Api:
    """The committed table."""
    return read(json.loads(TABLE.read_text(encoding="utf-8")))
