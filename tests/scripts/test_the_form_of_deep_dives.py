"""The form of every numbered script: a question, a duration, cells, something to try, and seeds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from project_files import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("[0-9]*.py"))
MOST_LINES = 135  # of code
DURATION = re.compile(r"Takes about (\d+) s; --fast: (\d+) s\.")
RANDOM = {"default_rng", "Generator", "TorchStream"}  # what must be given a seed
LAYERS = {"GPTModel", "Linear", "Embedding", "Dropout"}  # what must be given a stream

each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def text_of(script: Path) -> str:
    return script.read_text(encoding="utf-8")


def tree_of(script: Path) -> ast.Module:
    return ast.parse(text_of(script))


def cells_of(script: Path) -> list[tuple[str, str]]:
    """The kind of each cell, "" or "[markdown]", and its text."""
    parts = re.split(r"^# %%(?: (\[markdown\]))?\n", text_of(script), flags=re.MULTILINE)
    assert parts[0] == "", "the first line begins a cell"
    return [(kind or "", body) for kind, body in zip(parts[1::2], parts[2::2], strict=True)]


@each
def test_it_opens_with_a_question_and_says_how_long_it_takes(script: Path) -> None:
    about = ast.get_docstring(tree_of(script))
    assert about is not None
    first, _, rest = about.partition("\n\n")
    assert re.match(r"[A-Z][^.?]*\?  [A-Z].*\.$", first, re.DOTALL), "a question, and its answer in a sentence"
    assert rest.startswith("You will see ")
    found = DURATION.search(" ".join(rest.split()))
    assert found is not None
    assert int(found[2]) <= min(30, int(found[1]))


@each
def test_it_is_of_cells_that_a_notebook_opens(script: Path) -> None:
    cells = cells_of(script)
    assert cells[0][0] == "[markdown]"
    assert cells[0][1].startswith('"""')
    assert len(cells) >= 6
    for kind, body in cells[1:]:
        lines = body.strip().splitlines()
        assert lines, "no cell is empty"
        if kind:
            assert all(line.startswith("#") for line in lines), lines
        else:
            compile(body, script.name, "exec")
            assert not all(line.startswith("#") for line in lines if line), "text has a [markdown] cell"


@each
def test_it_ends_with_two_things_to_try_and_its_claims(script: Path) -> None:
    (kind, text), (_, end) = cells_of(script)[-2:]
    assert kind == "[markdown]"
    assert text.startswith("# **Try this:**\n")
    assert len(re.findall(r"^# - ", text, re.MULTILINE)) == 2
    assert end.startswith("dive.end(")


@each
def test_it_makes_its_options_in_one_place_and_has_no_main(script: Path) -> None:
    text = text_of(script)
    assert text.count("dive = DeepDive(__doc__") == 1
    assert "__main__" not in text


@each
def test_every_random_number_has_a_seed(script: Path) -> None:
    for node in ast.walk(tree_of(script)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            assert name not in RANDOM or node.args, ast.unparse(node)
            assert name not in LAYERS or "rng" in [k.arg for k in node.keywords], ast.unparse(node)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            assert node.attr in RANDOM, ast.unparse(node)
        if isinstance(node, ast.Import):
            assert "random" not in [alias.name for alias in node.names]


@each
def test_it_is_short(script: Path) -> None:
    lines = [line for line in text_of(script).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= MOST_LINES


@each
def test_readme_lists_it(script: Path) -> None:
    assert f"| `scripts/{script.name}` | " in (ROOT / "README.md").read_text(encoding="utf-8")
