"""nanograd-gpt learn."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import pytest
from cli.commands import fails, finished, nanograd, process, works
from project_files import ROOT

from nanograd_gpt.cli import learn
from nanograd_gpt.cli.deep_dives import deep_dives, find_deep_dive
from nanograd_gpt.errors import InputError, RunError

SCRIPT = '''"""{about}"""
import sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
(out / "{name}.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
(out / "arguments.txt").write_text(" ".join(sys.argv[1:]))
"--weights"
sys.exit({code})
'''


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small deep dives, in place of the package's."""
    place = tmp_path / "scripts"
    place.mkdir()
    for name, about, code in (
        ("01_first", "What is first?  It is this.\\n\\nYou will see it.  Takes about 3 s; --fast: 2 s.", 0),
        ("02_second_one", "What is second?  Another.", 7),
    ):
        (place / f"{name}.py").write_text(SCRIPT.format(about=about, name=name, code=code), encoding="utf-8")
    monkeypatch.setattr(learn, "deep_dives", lambda: deep_dives((place,)))
    monkeypatch.chdir(tmp_path)
    return place


def test_it_lists_the_fifteen_questions_with_their_seconds() -> None:
    lines = works("learn").splitlines()
    assert [line[:2] for line in lines if line[:2].strip().isdecimal()] == [f"{n:2}" for n in range(1, 16)]
    assert " 6  What does a head look at?" in lines
    assert [line for line in lines if line.startswith("    0") and " s with --fast" not in line] == []


def test_it_lists_the_scripts_of_the_clone() -> None:
    numbered = sorted((ROOT / "scripts").glob("[0-9]*.py"))
    assert [dive.script for dive in deep_dives()] == [*numbered, ROOT / "scripts" / "learning_or_memorising.py"]


@pytest.mark.parametrize("word", ["1", "01", "01_first", "first", "01_first.py", "FIRST"])
def test_a_deep_dive_is_run_by_number_or_name_and_its_picture_listed(word: str, scripts: Path, tmp_path: Path) -> None:
    assert "drawn" not in works("learn")
    assert works("learn", word, "--fast") == f"all pictures on one page: {Path('runs/deep_dives/index.html')}\n"
    out = tmp_path / "runs" / "deep_dives"
    assert (out / "arguments.txt").read_text(encoding="utf-8") == f"--fast --out {Path('runs/deep_dives')}"
    assert f"    01_first; 3 s, 2 s with --fast; drawn: {Path('runs/deep_dives/01_first.svg')}" in works("learn")
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "1 of 2" in page
    assert page.count("data:image/svg+xml;base64,") == 1


def test_the_exit_code_of_the_script_is_passed_on(scripts: Path) -> None:
    assert nanograd("learn", "second-one").code == 7


def test_a_scripts_own_option_is_passed_on(scripts: Path, tmp_path: Path) -> None:
    works("learn", "1", "--weights", "gpt2", "--out", tmp_path / "x")
    assert (tmp_path / "x" / "arguments.txt").read_text(encoding="utf-8").endswith("x --weights=gpt2")


def test_an_option_of_another_script_is_refused(scripts: Path) -> None:
    assert fails("learn", "1", "--model", "runs/tales") == "learn: 01_first does not take --model; leave it out"


def test_an_option_without_a_deep_dive_is_refused() -> None:
    told = "learn: --fast is for a deep dive; give its number too: nanograd-gpt learn 6 --fast"
    assert fails("learn", "--fast") == told


def test_the_page_can_be_written_before_anything_is_drawn(scripts: Path, tmp_path: Path) -> None:
    works("learn", "--page")
    page = (tmp_path / "runs" / "deep_dives" / "index.html").read_text(encoding="utf-8")
    assert page.count("<li>") == 2
    assert "<img " not in page


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("16", "learn: 16 is unknown; did you mean 15? They are numbered 1 to 15"),
        ("0", "learn: 0 is unknown; did you mean 1? They are numbered 1 to 15"),
        ("atention-anatomy", "learn: 'atention-anatomy' is unknown; did you mean 'attention_anatomy'?"),
        ("cookery", "learn: 'cookery' is unknown; nanograd-gpt learn lists them"),
    ],
)
def test_an_unknown_deep_dive_is_one_line_with_the_nearest(word: str, told: str) -> None:
    assert fails("learn", word) == told
    with pytest.raises(InputError):
        find_deep_dive(word, deep_dives())


def test_without_scripts_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"are neither in .*; install the package again"):
        deep_dives((tmp_path / "a", tmp_path / "b"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc, which tells of the deep dive's process, is Linux's")
@pytest.mark.parametrize("to", ["both", "this command alone"])
def test_ctrl_c_ends_a_deep_dive_and_is_reported_once(tmp_path: Path, to: str) -> None:
    """While it imports what it needs."""
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    running = process("learn", "10", cwd=tmp_path, start_new_session=True, preexec_fn=heard)
    deadline = monotonic() + 50
    while not imports_numpy(children(running.pid)):
        assert running.poll() is None
        assert monotonic() < deadline
        sleep(0.01)
    (os.killpg if to == "both" else os.kill)(running.pid, signal.SIGINT)
    result = finished(running)
    assert (result.code, result.err) == (130, "error: interrupted\n")


def children(pid: int) -> str:
    """The child of a process; "" before it has one."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").strip()


def imports_numpy(pid: str) -> bool:
    return bool(pid) and "_multiarray_umath" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
