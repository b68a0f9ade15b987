"""The checks of pages find each fault that is put into a page, and pass one without."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import WIDTHS, each_view, faults_of, invalid_html, open_page

STYLE = "body { font: 16px sans-serif; color: #222; background: #fff }"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 40" width="100" height="40">'
FAULTY = {
    "text of 10.0 px": '<p style="font-size: 10px">small</p>',
    "text of 8.0 px": f'{SVG}<g transform="scale(0.5)"><text x="9" y="40" font-size="16">drawn</text></g></svg>',
    "contrast of 2.32": '<p style="color: #aaa">grey</p>',
    "contrast of 1.63": f'{SVG}<rect width="99" height="40" fill="#444"/><text y="20" fill="#222">on bars</text></svg>',
    "contrast of 4.27": '<p><span style="opacity: 0.6">faded</span></p>',
    "overlaps": '<p>one</p><p style="margin-top: -2em">another</p>',
    "cut by <div>": '<div style="width: 3em; overflow: hidden; white-space: nowrap">longer than three</div>',
    "cut by <svg>": f'{SVG}<text x="70" y="20" fill="#222">beyond the edge</text></svg>',
    "left of the page": '<p style="margin-left: -3em">away</p>',
    "px wide in a window of": '<p style="width: 2000px">far</p>',
}


def html(body: str, style: str = STYLE) -> str:
    head = f'<meta charset="utf-8"><title>Page</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def written(path: Path, body: str, style: str = STYLE) -> Path:
    path.write_text(html(body, style), encoding="utf-8")
    return path


def test_a_fault_is_found_and_named(tmp_path: Path) -> None:
    with open_page(written(tmp_path / "page.html", "")) as page:
        assert faults_of(page) == ["the page shows no text"]
        for what, body in FAULTY.items():
            page.set_content(html(f"<p>Text.</p>{body}"))
            found = faults_of(page)
            assert len(found) == 1, what
            assert what in found[0]


@each_view
def test_a_page_that_can_be_read_has_no_faults(width: int, dark: bool, tmp_path: Path) -> None:
    style = STYLE + " @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } }"
    hidden = '<span style="position: absolute; width: 1px; height: 1px; overflow: hidden">for screen readers</span>'
    wide = '<div style="overflow-x: auto"><p style="width: 2000px; color: inherit">one can scroll to its end</p></div>'
    folded = '<details><summary>More</summary><p style="font-size: 3px">not shown</p></details>'
    drawn = f'{SVG}<rect width="100" height="40" fill="#eee"/><text x="5" y="20" fill="#222">drawn</text></svg>'
    path = written(tmp_path / "page.html", f"<h1>Title</h1>{hidden}{wide}{folded}{drawn}", style)
    with open_page(path, width, dark=dark) as page:
        assert page.evaluate("innerWidth") == width
        assert faults_of(page) == []
    assert invalid_html(path) == []


@pytest.mark.parametrize(
    "body",
    [
        '<img src="https://example.org/picture.png" alt="">',
        '<link rel="stylesheet" href="style.css">',
        "<script>console.error('x')</script>",
        "<script>undefined.x</script>",
    ],
)
def test_a_request_or_an_error_fails(body: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError), open_page(written(tmp_path / "page.html", f"<p>Text.</p>{body}"), WIDTHS[1]):
        pass


def test_invalid_html_is_found_with_its_line(tmp_path: Path) -> None:
    found = invalid_html(written(tmp_path / "page.html", "<p>one<div></p></div>"))
    assert found
    assert found[0].startswith("page.html:2:")
