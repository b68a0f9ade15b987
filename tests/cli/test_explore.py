"""nanograd-gpt explore writes the page of any model that the command line opens, and refuses what it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli.commands import fails, nanograd, works
from explore.pages import data_of

from nanograd_gpt.explore import limits
from nanograd_gpt.tokenizer.tokenizer import text_to_token_ids
from nanograd_gpt.training.sources import load_pretrained, pretrained_tokenizer

PROMPT = "the sun rose"


def test_the_page_of_a_run_is_in_a_new_file_each_time(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.match(r"explore.html: 0\.\d MB; open it in a browser", works("explore", trained, "--prompt", PROMPT))
    first = Path("explore.html").read_bytes()
    assert works("explore", trained, "--prompt", "a river").startswith("explore-2.html: ")
    assert Path("explore.html").read_bytes() == first
    data = data_of(first.decode())
    ids = text_to_token_ids(PROMPT, pretrained_tokenizer(trained))[0]
    assert data["ids"] == ids.tolist()
    assert data["model"] == load_pretrained(trained).config.to_dict()
    assert f"What {trained} makes of a prompt" in first.decode()


def test_checkpoints_and_files_are_opened_as_elsewhere(
    trained: Path, checkpoint: Path, model_file: Path, tmp_path: Path
) -> None:
    pages = []
    for i, model in enumerate((trained, checkpoint, model_file)):
        out = tmp_path / "new" / f"{i}.html"
        works("explore", "--model", model, "--tokenizer", trained / "tokenizer.json", "--out", out, "--prompt", PROMPT)
        pages.append(data_of(out.read_text(encoding="utf-8"))["attention"].tobytes())
    assert pages[0] == pages[1] == pages[2]


def test_a_longer_prompt_is_noted_and_its_end_shown(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = nanograd("explore", trained, "--prompt", PROMPT * 9, "--out", out)
    assert result.code == 0
    assert re.fullmatch(r"note: the prompt has \d+ tokens; the model sees the last 16, its context\n", result.err)
    assert len(data_of(out.read_text(encoding="utf-8"))["ids"]) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "--prompt: the prompt is empty; give a text to explore"),
        (["--out", "page.htm"], "--out: page.htm does not end with .html"),
        (["--out", "taken.html"], "explore: taken.html exists already; give a new name"),
        (["--out", "."], r"--out: \. has no name of its own"),
        (["--tokenizer", "gpt2"], "--tokenizer: 'gpt2' has 50257 tokens, the model 307"),
    ],
    ids=str,
)
def test_what_cannot_be_explored_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.html").write_text("mine", encoding="utf-8")
    assert re.match(message, fails("explore", trained, "--prompt", PROMPT, *options))
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"taken.html": "mine"}


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "absent does not exist" in fails("explore", tmp_path / "absent", "--prompt", PROMPT)
    assert "no model is given" in fails("explore", "--prompt", PROMPT)


def test_a_place_that_cannot_be_written_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    out = tmp_path / "file" / "page.html"
    assert str(tmp_path / "file") in fails("explore", trained, "--prompt", PROMPT, "--out", out, code=1)


def test_a_prompt_too_long_for_a_page_is_refused_in_one_line(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ATTENTION", 20)
    message = fails("explore", trained, "--prompt", PROMPT, "--out", tmp_path / "page.html")
    assert message.endswith("is more than a page can hold; give at most 4 tokens")


def test_a_large_model_is_said_to_take_a_while(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.explore.LONG", 1000)
    result = nanograd("explore", trained, "--prompt", PROMPT, "--out", tmp_path / "page.html")
    assert result.code == 0
    assert re.fullmatch(r"note: \d tokens take a backward pass each; a shorter prompt is ready sooner\n", result.err)
