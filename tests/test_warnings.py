"""A warning about our code fails a test; a library's own deprecations do not, whatever version of it is installed."""

from __future__ import annotations

import warnings

import pytest


@pytest.mark.parametrize("module", ["nanograd_gpt", "nanograd_gpt.backend.cpu.norm", __name__, "tests.cli.commands"])
@pytest.mark.parametrize("kind", [DeprecationWarning, RuntimeWarning, FutureWarning, UserWarning])
def test_a_warning_about_our_code_is_an_error(module: str, kind: type[Warning]) -> None:
    with pytest.raises(kind, match="old"):
        warnings.warn_explicit("old", kind, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["matplotlib._mathtext", "pyparsing.core", "tiktoken", "numpy.lib"])
def test_a_librarys_deprecation_is_shown_but_is_not_an_error(module: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)
    assert [str(warning.message) for warning in seen] == ["old"]
