"""One thread in the process that ranks are compared with, as each of them has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = n_threads()
    set_threads(1)
    yield
    set_threads(before)
