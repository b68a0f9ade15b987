"""The report of a run and the comparison of two, as a browser shows them: legible, valid, without the network."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import each_view, faults_of, invalid_html, open_page
from cli.commands import works

SIZES = ["--n-layers", 2, "--emb-dim", 16, "--n-heads", 2, "--eval-iter", 1, "--eval-freq", 8, "--warmup-steps", 2]
COURSE = ["--max-steps", 25, "--watch-every", 5]
REPORT = (
    "Training",
    "Updates, gradients and activations by layer",
    "Where each head looks",
    "The likeliest next tokens",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    directory = tmp_path_factory.mktemp("runs")
    tales, story = directory / "tales", directory / "story"
    works("train", "--data", "tales", "--out", tales, *SIZES, *COURSE)
    works("train", "--data", "story", "--out", story, *SIZES, *COURSE, "--epochs", 3)
    works("plot", tales, story, "--out", directory / "comparison")
    return {
        "tales": tales / "report.html",
        "story": story / "report.html",
        "comparison": directory / "comparison" / "comparison.html",
    }


@pytest.mark.parametrize("name", ["tales", "story", "comparison"])
@each_view
def test_a_page_has_no_faults(pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    with open_page(pages[name], width=width, dark=dark) as page:
        assert faults_of(page) == []


@pytest.mark.parametrize("name", ["tales", "story", "comparison"])
def test_a_page_is_valid_and_has_no_scripts(pages: dict[str, Path], name: str) -> None:
    assert invalid_html(pages[name]) == []
    source = pages[name].read_text(encoding="utf-8")
    assert "<script" not in source
    assert [title for title in REPORT if f"<h2>{title}</h2>" not in source] == (
        [*REPORT] if name == "comparison" else []
    )
    assert ("<h2>Tales by the model</h2>" in source) is (name == "tales")
