"""The page of the deep dives' pictures, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import each_view, faults_of, invalid_html, open_page

from nanograd_gpt.viz.figure_files import save_figure
from nanograd_gpt.viz.gallery import Exhibit, write_gallery
from nanograd_gpt.viz.plots import new_figure


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gallery")
    for name in ("01_first", "01_first_narrow", "02_second"):
        figure = new_figure(3)
        figure.subplots().plot([1, 2], [2, 1])
        save_figure(figure, directory / name)
    (directory / "01_first.html").write_text("<!doctype html><title>x</title>", encoding="utf-8")
    names = ("01_first", "02_second", "03_third")
    return write_gallery(directory, [Exhibit(n, f"Why <{n}>?", f"nanograd-gpt learn {n}") for n in names])


def test_it_holds_the_pictures_and_names_the_missing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<img ") == 2
    assert text.count("<source ") == 1
    assert text.count("<li>") == 1
    assert "Why &lt;01_first&gt;?" in text
    assert '<a href="01_first.html">' in text
    assert invalid_html(page) == []


@each_view
def test_nothing_is_cut_or_hard_to_read(page: Path, width: int, dark: bool) -> None:
    with open_page(page, width=width, dark=dark) as shown:
        assert faults_of(shown) == []
        assert shown.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
