"""python -m nanograd_gpt, but for a run's figures and report.  Arguments: a command's."""

from __future__ import annotations

from collections.abc import Callable
from runpy import run_module
from typing import Any

from nanograd_gpt.cli import header, train


def leave_out(setattr: Callable[[Any, str, Any], object]) -> None:
    """Let a run draw nothing, and not import matplotlib."""
    setattr(header, "load_drawing", lambda: None)
    setattr(train, "check_figures", lambda run: None)
    setattr(train, "write_figures", lambda run: [])


if __name__ == "__main__":
    leave_out(setattr)
    run_module("nanograd_gpt", run_name="__main__", alter_sys=True)
