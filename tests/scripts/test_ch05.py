"""The notebook of chapter 5: valid, of its source, with the published numbers; its cells print again what is stored."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanograd_gpt.training.loop import evaluation_line
from nanograd_gpt.training.loss import Evaluation

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "scripts" / "make_ch05.py"
NOTEBOOK = ROOT / "scripts" / "ch05.ipynb"
BATCHES = 9  # in an epoch of the short story

PUBLISHED = {  # what the book prints, as the notebook's cells print it
    "untrained-sample": ["Every effort moves you rentingetic wasn"],
    "probabilities": ["[[16657, 339, 42826], [49906, 29669, 41751]]"],
    "log-probabilities": ["-9.5042 -10.3796 -11.3677 -11.4798  -9.7764 -12.2561", "-10.7940"],
    "cross-entropy-loss": ["(6, 50257)", "loss: 10.7940", "perplexity: 48725.8"],
    "story": ["20,479 characters, 5,145 tokens"],
    "loaders": ["batches 9,", "batches 1,", "tokens 4,608", "tokens 512"],
    "untrained-losses": ["10.98758", "10.98111"],
    "greedy-sample": ["the axioms he laid down across the Sevres and silver of an exquisitely appointed lun"],
    "sampled-text": ["Every effort moves you stand to work on surprise, a one of us had gone with random-"],
    "temperature-tables": ["582 forward", "343 toward", "985 forward", "239 forward", "32 pizza"],
    "top-k-probabilities": ["[6.75 6.28 4.51] at [3 7 0]", "0.0615", "0.5775", "0.361 "],
}


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return document


@pytest.fixture
def command() -> Any:
    """make_ch05.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("make_ch05", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell_of(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == name)
    return cell


def printed(notebook: dict[str, Any], name: str) -> str:
    return "".join(line for output in cell_of(notebook, name)["outputs"] for line in output.get("text", []))


# The notebook


def test_it_is_a_valid_notebook(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_it_has_the_format_that_jupyter_reads() -> None:
    nbformat = pytest.importorskip("nbformat", reason="the structure is checked by Jupyter's own package")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_every_code_cell_compiles_and_none_ended_in_an_error(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]), cell["id"], "exec")
            assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "execute_result"}


def test_it_is_of_its_source(notebook: dict[str, Any], command: Any) -> None:
    cells = command.cells_of(command.SOURCE.read_text(encoding="utf-8"))
    stored = {cell.id: [] for cell in cells}  # so that none is executed
    expected = list(command.executed(cells, stored))
    for cell, other in zip(notebook["cells"], expected, strict=True):
        for name in ("id", "cell_type", "metadata", "source"):
            assert cell[name] == other[name]


def test_it_names_no_path_of_the_machine_that_wrote_it() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert [place for place in ("/work", "/tmp", "/home", "/root", "/usr", str(ROOT)) if f"{place}/" in text] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_numbers_are_the_published_ones(notebook: dict[str, Any], name: str) -> None:
    for part in PUBLISHED[name]:
        assert part in printed(notebook, name)


def test_its_training_is_the_committed_one(notebook: dict[str, Any]) -> None:
    log = json.loads((ROOT / "benchmarks" / "results" / "book.json").read_text(encoding="utf-8"))
    evaluations = {e["step"]: Evaluation(e["train_loss"], e["val_loss"]) for e in log["evaluations"]}
    expected = []
    for step in range(10 * BATCHES):
        if step in evaluations:
            expected.append(evaluation_line(step // BATCHES + 1, step, evaluations[step]))
        if (step + 1) % BATCHES == 0:
            expected.append(log["samples"][step // BATCHES])
    assert len(expected) == 28
    assert printed(notebook, "train").splitlines() == expected


def test_the_losses_are_shown_as_a_figure(notebook: dict[str, Any]) -> None:
    (output,) = cell_of(notebook, "loss-figure")["outputs"]
    assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")


def test_what_was_saved_is_what_was_loaded(notebook: dict[str, Any]) -> None:
    assert "same continuation: True" in printed(notebook, "save-the-model")
    assert "same first moments: True" in printed(notebook, "save-both")


@pytest.mark.slow
def test_every_cell_that_needs_no_training_prints_again_what_is_stored(tmp_path: Path) -> None:
    folder = os.environ.get("NANOGRAD_TEST_DATA")
    if folder is None:
        pytest.skip("needs the-verdict.txt in the folder that NANOGRAD_TEST_DATA names")
    arguments = [sys.executable, str(COMMAND), "--check", "--data", str(Path(folder) / "the-verdict.txt")]
    done = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "checked: 14 cells print what is stored"


# The command

SOURCE = '''"""A source."""

# %% about [markdown]
# # Title
#
# Text.

# %% one
x = 2.5
print(f"{x:.3f}")

# %% two [trained]
print("trained")

# %% three
x
'''


@pytest.fixture
def small(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, with a source of four cells and its notebook."""
    monkeypatch.setattr(command, "SOURCE", tmp_path / "small.py")
    monkeypatch.setattr(command, "NOTEBOOK", tmp_path / "small.ipynb")
    command.SOURCE.write_text(SOURCE, encoding="utf-8")
    assert command.main([]) == 0
    return command


def test_a_cell_is_stored_with_what_it_prints_and_its_last_value(small: Any) -> None:
    about, one, two, three = json.loads(small.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert about == {
        "cell_type": "markdown", "id": "about", "metadata": {}, "source": ["# Title\n", "\n", "Text."],
    }  # fmt: skip
    assert one["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["2.500\n"]}]
    assert (two["metadata"], one["metadata"]) == ({"tags": ["trained"]}, {})
    assert three["outputs"][0]["data"] == {"text/plain": ["2.5"]}
    assert [cell["execution_count"] for cell in (one, two, three)] == [1, 2, 3]


def test_the_same_source_gives_the_same_bytes(small: Any) -> None:
    before = small.NOTEBOOK.read_bytes()
    assert small.main(["--keep-trained"]) == 0
    assert small.NOTEBOOK.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("x = 2.5", "x = 2.6", "one: the cell has changed"),
        ("# Text.", "# Another text.", "about: the cell has changed"),
        ("# %% three\nx", "", "three: the cell has changed"),
        ('"trained"', '"changed"', "two: this cell has changed; write the notebook without --keep-trained"),
    ],
)
def test_check_names_a_cell_that_has_changed(
    small: Any, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small.SOURCE.write_text(SOURCE.replace(old, new), encoding="utf-8")
    assert small.main(["--check"]) == 1
    assert said in capsys.readouterr().out


def test_check_names_a_cell_that_prints_another_number(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stored = small.NOTEBOOK.read_text(encoding="utf-8")
    for number, code in (("2.500", 0), ("2.501", 0), ("2.502", 1)):
        small.NOTEBOOK.write_text(stored.replace("2.500", number), encoding="utf-8")
        assert small.main(["--check"]) == code
    assert "one: printed\n2.500\nbut stored is\n2.502" in capsys.readouterr().out


def test_keep_trained_executes_the_others_alone(small: Any) -> None:
    small.SOURCE.write_text(SOURCE.replace("2.5", "3.5"), encoding="utf-8")
    stored = small.NOTEBOOK.read_text(encoding="utf-8")
    small.NOTEBOOK.write_text(stored.replace('"trained\\n"', '"kept\\n"'), encoding="utf-8")
    assert small.main(["--keep-trained"]) == 0
    _, one, two, _ = json.loads(small.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert (one["outputs"][0]["text"], two["outputs"][0]["text"]) == (["3.500\n"], ["kept\n"])


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ("loss 1.234", "loss 1.235", False),
        ("loss 1.234", "loss 1.236", True),
        ("7.4540e-05", "7.4541e-05", False),
        ("7.4540e-05", "7.4543e-05", True),
        ("582 forward", "583 forward", True),
        ("0. 1.", "1. 1.", True),
        ("-1.0", "1.0", True),
        ("a 1.0", "b 1.0", True),
        ("1.0", "1.0 2.0", True),
    ],
)
def test_numbers_may_differ_by_one_in_the_last_digit_and_nothing_else_may(
    command: Any, new: str, old: str, expected: bool
) -> None:
    assert command.differs(new, old) is expected
