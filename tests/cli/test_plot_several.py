"""nanograd-gpt plot RUN RUN: one page that compares runs."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
from cli.commands import contents, fails, nanograd, works


@pytest.fixture
def runs(tmp_path: Path, trained: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        copytree(trained, tmp_path / name, ignore=lambda *_: ["figures", "report.html"])
    return tmp_path / "one", tmp_path / "two"


def test_several_runs_are_compared_beside_the_first_and_stay_as_they_are(runs: tuple[Path, Path]) -> None:
    before = contents(runs[0]), contents(runs[1])
    printed = works("plot", *runs).splitlines()
    out = runs[0].parent / "comparison"
    assert printed[-1] == str(out / "comparison.html")
    assert sorted(map(Path, printed)) == sorted(path for path in out.rglob("*") if path.is_file())
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".svg"}
    assert (contents(runs[0]), contents(runs[1])) == before
    assert works("plot", runs[0], "--out", out / "elsewhere", runs[1]).splitlines()[-1] == str(
        out / "elsewhere/comparison.html"
    )


def test_damage_is_a_note_for_each_run_and_the_rest_is_compared(runs: tuple[Path, Path]) -> None:
    for run in runs:
        with (run / "metrics.jsonl").open("ab") as file:
            file.write(b"\xff\n")
        (run / "snapshots.json").write_text('{"snapshots": 3}', encoding="utf-8")
    result = nanograd("plot", *runs)
    assert result.code == 0
    notes = result.err.splitlines()
    assert [
        note.startswith(f"note: {run / 'metrics.jsonl'} has 1 line with") for note, run in zip(notes, runs, strict=True)
    ]
    assert all("snapshots.json cannot be read (it does not hold a run's snapshots); passed over" in n for n in notes)


def test_a_run_given_twice_and_a_directory_that_is_no_run_are_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert fails("plot", runs[0], runs[0]) == f"plot: {runs[0]} is given twice; name each run once"
    assert f"{tmp_path / 'empty' / 'metrics.jsonl'} does not exist" in fails("plot", runs[0], tmp_path / "empty")
    assert f"{tmp_path / 'gone' / 'metrics.jsonl'} does not exist" in fails("plot", tmp_path / "gone", runs[0])
    assert fails("plot", runs[0], "--model", runs[1]) == (
        f"--model: both {runs[0]} and {runs[1]} are given; leave one out"
    )
    assert not (tmp_path / "comparison").exists()


def test_directories_of_pages_among_runs_are_left_out(runs: tuple[Path, Path], tmp_path: Path) -> None:
    works("plot", *runs)
    (tmp_path / "deep_dives").mkdir()
    (tmp_path / "deep_dives" / "index.html").write_text("<html></html>", encoding="utf-8")
    again = nanograd("plot", *sorted(path for path in tmp_path.iterdir() if path.is_dir()))
    assert again.code == 0, again
    assert again.err.splitlines() == [
        f"note: {tmp_path / name} holds a page, not a run, and is left out" for name in ("comparison", "deep_dives")
    ]
