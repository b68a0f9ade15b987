"""The text of a .cu file as C++ for the simulator: includes resolved, shared variables declared by a call."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from .errors import CompilerError

INCLUDE = Path(__file__).with_name("include")

_QUALIFIED = r"(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s+)?"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_QUALIFIED}([A-Za-z_][\w: ]*?)\s+(\w+)\s*\[\s*\]\s*;")
_SHARED = re.compile(
    rf"__shared__\s+{_QUALIFIED}([A-Za-z_](?:[\w: ]|<[^<>;]*>)*?(?:\s*\*)?)\s+(\w+)\s*((?:\[[^\]]*\]\s*)*);"
)
_INCLUDE = re.compile(r'^[ \t]*#\s*include\s*([<"])([^>"]+)[>"].*$', re.MULTILINE)
_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_KERNEL = re.compile(
    r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)"
)
_BOUNDS = re.compile(r"__launch_bounds__\s*\(\s*(\d+)[^)]*\)\s*(?:void\s+)?(\w+)\s*\(")
_UNSUPPORTED = {
    r"\basm\b": "PTX: the simulator runs C++; put it into a header of which tests/cusim/include has a twin",
    r"\bcooperative_groups\b": "cooperative groups",
    r"\b__shared__\b": "a form of __shared__ that it does not know: write one variable a declaration",
    r"\btexture\b|\bcudaTextureObject_t\b": "textures",
}

Changes = dict[str, str]  # texts of files -> what to compile in their place


def translate(code: str, name: str, folders: Iterable[Path], changes: Changes) -> str:
    """C++ in place of the CUDA C++ of a file `name`; its lines keep their numbers in messages.

    Raises CompilerError for what the simulator cannot run.
    """
    counter = itertools.count()
    return _file(code, name, [INCLUDE, *folders], changes, set(), counter)


def kernel_names(code: str) -> list[str]:
    """The names of the kernels that the text defines, templates too."""
    return _KERNEL.findall(without_comments(code))


def launch_bounds(code: str) -> dict[str, int]:
    """The most threads a block of the kernels that say so, where it is written as a number."""
    return {name: int(threads) for threads, name in _BOUNDS.findall(without_comments(code))}


def file_name(code: str, folders: Iterable[Path]) -> str:
    """The name of the .cu file that has this text: CuPy gets the text alone."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.cu"))):
        if path.read_text(encoding="utf-8") == code:
            return path.name
    return "kernel.cu"


def without_comments(code: str) -> str:
    """The text with each comment's characters but its line breaks removed."""
    return _COMMENT.sub(lambda m: m[1] or "\n" * m[0].count("\n") or " ", code)


def _file(
    code: str, name: str, folders: list[Path], changes: Changes, seen: set[Path], counter: itertools.count[int]
) -> str:
    code = without_comments(changes.get(code, code))
    code = _DYNAMIC.sub(lambda m: f"auto* {m[2]} = static_cast<{m[1]}*>(cusim::dynamic_shared_memory());", code)
    code = _SHARED.sub(lambda m: f"auto& {m[2]} = cusim::shared<{m[1]} {m[3]}, {next(counter)}>();", code)
    for pattern, what in _UNSUPPORTED.items():
        if found := re.search(pattern, code):
            line = code.count("\n", 0, found.start()) + 1
            raise CompilerError(f"{name} line {line}: the simulator does not run {what}")

    def included(match: re.Match[str]) -> str:
        here = code.count("\n", 0, match.start()) + 1
        path = next((path for folder in folders if (path := folder / match[2]).is_file()), None)
        if path is None and match[1] == "<":
            return ""  # CUDA's own: cuda_words.hpp has what is needed of it
        if path is None:
            raise CompilerError(f"{name} line {here}: no {match[2]} in {', '.join(map(str, folders))}")
        if path.resolve() in seen:
            return ""
        seen.add(path.resolve())
        text = _file(path.read_text(encoding="utf-8"), path.name, folders, changes, seen, counter)
        return f'{text}\n#line {here + 1} "{name}"'

    return f'#line 1 "{name}"\n{_INCLUDE.sub(included, code)}'
