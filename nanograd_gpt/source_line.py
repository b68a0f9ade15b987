"""The line of source that called an operation: the nearest one outside the engine."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKS = {"anomaly.py", "pytorch_names.py", "rule_checks.py", "source_line.py", "tape"}
ENGINE = frozenset({"autograd.py", "grad_mode.py", "nn/functional.py", "ops", "tensor.py", *CHECKS})
LAYERS = ENGINE | {"nn"}  # for the model's line `self.out_proj(context)` in place of the one in Linear.forward


def calling_line(passed: frozenset[str] = ENGINE) -> str:
    """'gpt/model.py:91', the nearest line outside `passed`; the package's own files by their path inside it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_passed(frame.f_code.co_filename, passed):
        frame = frame.f_back
    return f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"


@cache
def _is_passed(file: str, passed: frozenset[str]) -> bool:
    path = Path(file)
    if not path.is_relative_to(PACKAGE):
        return False
    inside = path.relative_to(PACKAGE)
    return inside.as_posix() in passed or inside.parts[0] in passed


@cache
def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path)
