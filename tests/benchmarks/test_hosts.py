"""The reason why hosts cannot be imitated is said."""

from __future__ import annotations

import os
import shutil

import data_parallel
import hosts
import pytest

from nanograd_gpt.errors import RunError


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="every user is the same here")
def test_only_root_can_imitate_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hosts.missing.__wrapped__() == "network namespaces need Linux and root"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="every user is the same here")
def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ip", "tc") else f"/bin/{name}")
    assert hosts.missing.__wrapped__() == "network namespaces need ip, tc"


def test_a_measurement_without_hosts_says_why_and_what_needs_none(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(data_parallel, "missing", lambda: "no root")
    with pytest.raises(RunError, match="hosts: no root; --only step needs none"):
        data_parallel.main(["--out", str(tmp_path)])
    assert [*tmp_path.iterdir()] == []
