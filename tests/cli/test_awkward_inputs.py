"""Awkward inputs in this process: what has no meaning is refused in one line, and the rest work; see awkward/run.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward.inputs import filled, inputs
from awkward.verdict import wrong
from cli.commands import nanograd

EVERY = 1  # of all, which awkward/run.py runs in processes of their own


@pytest.fixture(scope="module")
def paths(trained: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("awkward")
    (place / "file").write_bytes(b"\x00\xff")
    (place / "empty").mkdir()
    long = str(place / ("a" * 300))
    names = {"run": trained, "data": data, "file": place / "file", "empty": place / "empty", "new": place / "new"}
    return {name: str(path) for name, path in names.items()} | {"long": long}


@pytest.mark.parametrize("argv", inputs()[::EVERY], ids=range(0, len(inputs()), EVERY))
def test_an_awkward_input_ends_in_one_line_or_works(
    argv: list[str],
    paths: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code, out, err = nanograd(*filled(argv, paths))
    except SystemExit as end:  # of --help
        code, out, err = int(end.code or 0), *capsys.readouterr()
    fault = wrong(code, out, err)
    assert fault is None, (fault, code, err, argv)
    assert not code or (code == 2 and not any(tmp_path.iterdir())) or code in (1, 3)


def test_the_table_has_hundreds_of_inputs_of_every_kind() -> None:
    chosen = inputs()[::EVERY]
    assert len(chosen) >= 200
    assert {argv[0] for argv in chosen if argv} >= {
        "train",
        "generate",
        "evaluate",
        "explain-next",
        "bench",
        "info",
        "plot",
    }
