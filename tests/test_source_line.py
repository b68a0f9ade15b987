"""The line that called an operation is the nearest one outside the engine."""

from __future__ import annotations

import inspect

import pytest

from nanograd_gpt.source_line import ENGINE, LAYERS, PACKAGE, calling_line


@pytest.mark.parametrize("passed", [ENGINE, LAYERS])
def test_a_line_outside_the_package_is_itself(passed: frozenset[str]) -> None:
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]  # CPython has frames
    assert calling_line(passed) == f"{__file__}:{line + 1}"


def test_every_name_is_that_of_a_file_or_folder() -> None:
    assert all((PACKAGE / name).exists() for name in LAYERS)
