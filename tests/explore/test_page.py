"""The page is one valid file whose prompt is text and nothing else, and which can ask for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import invalid_html
from explore.pages import PROMPT, data_of, page_of, written
from project_files import PACKAGE

import nanograd_gpt as ng
from nanograd_gpt.explore.page import D3, SCRIPTS, script_json
from nanograd_gpt.explore.token_text import token_text
from nanograd_gpt.explore.write_explorer import write_explorer

FOLDER = PACKAGE / "explore" / "page"


def test_the_page_is_valid_html(tmp_path: Path) -> None:
    assert invalid_html(written(tmp_path / "page.html")[2]) == []


def test_a_prompt_of_markup_is_only_text() -> None:
    page = page_of(PROMPT)[2]
    plain = page_of("sun")[2]
    for tag in ("<script", "</script", "<b>", "<style", "<!--"):
        assert page.count(tag) == plain.count(tag)
    assert script_json({"a": "</script><!--&"}) == r'{"a":"\u003c/script\u003e\u003c!--\u0026"}'


def test_a_name_of_markup_is_only_text(tmp_path: Path) -> None:
    words = ng.get_tokenizer("gpt2")
    model = ng.GPTModel(ng.GPTConfig(context_length=4, emb_dim=8, n_heads=1, n_layers=1))
    page = write_explorer(tmp_path / "p.html", model, "a", words, '<b>{{data}}"').read_text(encoding="utf-8")
    assert page.count("&lt;b&gt;{{data}}&quot;") == 3
    assert "<b>" not in page.partition('<script type="application/json"')[0]


def test_the_page_names_no_other_file_and_its_policy_forbids_every_request() -> None:
    page = page_of()[2]
    assert re.findall(r'(?:src|href)="(?!data:,)[^"]*"', page) == []
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert "http" not in policy


def test_every_script_is_strict_short_and_used() -> None:
    assert {path.stem for path in FOLDER.glob("*.js")} == {*SCRIPTS}
    assert page_of("sun")[2].count('"use strict";\n\n// The data of the page') == 1
    for path in FOLDER.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 400, path.name
        assert max(map(len, lines)) <= 120, path.name


def test_d3_is_what_its_notice_says() -> None:
    from hashlib import sha256

    notice = (PACKAGE / "assets" / "NOTICE.md").read_text(encoding="utf-8")
    assert {path.name for path in (PACKAGE / "assets" / "d3").iterdir()} == {f"d3-{name}.min.js" for name in D3}
    for name in D3:
        content = (PACKAGE / "assets" / "d3" / f"d3-{name}.min.js").read_bytes()
        assert f"`d3/d3-{name}.min.js`" in notice
        assert sha256(content).hexdigest() in notice
        assert re.search(rb" v([\d.]+) ", content)[1].decode() in notice  # type: ignore[index]  # D3 names its version


def test_nothing_in_a_token_is_invisible() -> None:
    gpt2 = ng.get_tokenizer("gpt2")
    shown = [token_text(i, gpt2) for i in gpt2.encode(" the\n\t界\x1b\u200e")]
    assert "".join(text for text, _ in shown).startswith("␣the↵⇥0xe7950x8c\\x1b")
    assert all(text.isprintable() and text.strip() for text, _ in shown)
    assert token_text(gpt2.eot_token, gpt2) == ("<|endoftext|>", False)


def test_every_token_of_the_page_has_its_text() -> None:
    data = data_of(page_of()[2])
    shown = {*data["ids"], *data["candidates"]["ids"].tolist(), *data["lens"]["tokens"].ravel().tolist()}
    assert {str(i) for i in shown} <= {*data["texts"]}


def test_a_longer_prompt_shows_its_end_and_says_so() -> None:
    _, ids, page = page_of("the sun rose over the river", context_length=4)
    assert data_of(page)["ids"] == ids[-4:].tolist()
    assert f"The prompt&#x27;s first {len(ids) - 4} tokens" in page


@pytest.mark.parametrize(
    ("path", "prompt", "message"),
    [("page.htm", "sun", "does not end with .html"), ("page.html", "", "prompt: the prompt is empty")],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, path: str, prompt: str, message: str) -> None:
    words = ng.get_tokenizer("gpt2")
    model = ng.GPTModel(ng.GPTConfig(context_length=4, emb_dim=8, n_heads=1, n_layers=1))
    with pytest.raises(ng.InputError, match=message):
        write_explorer(tmp_path / path, model, prompt, words)
    assert list(tmp_path.iterdir()) == []
