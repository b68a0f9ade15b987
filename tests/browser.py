"""Pages in a browser: what they ask for, what they log, and whether their text can be read at any width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SCRIPT = Path(__file__).with_name("page_faults.js")
WIDTHS, SCHEMES = (1440, 390), (False, True)

each_view = pytest.mark.parametrize(("width", "dark"), [(width, dark) for width in WIDTHS for dark in SCHEMES])


@contextmanager
def open_page(path: Path, width: int = 1440, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """Open a file in headless Chromium; skips where Playwright or Chromium is missing.

    Fails at the end of the block if the page asked for anything but itself, or logged a warning or an error.
    """
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser on the PATH: {' or '.join(NAMES)}")
    asked: list[str] = []
    logged: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
            )
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: _log(logged, message))
            page.on("pageerror", lambda error: logged.append(str(error)))
            page.goto(path.resolve().as_uri())
            yield page
        finally:
            browser.close()
    assert [url for url in asked[1:] if not url.startswith(("data:", "blob:"))] == []
    assert logged == []


def _log(logged: list[str], message: Any) -> None:
    if message.type in ("error", "warning"):
        logged.append(message.text)


def faults_of(page: Page) -> list[str]:
    """Faults of the page as it is shown now: see page_faults.js."""
    return page.evaluate(SCRIPT.read_text(encoding="utf-8"))


def invalid_html(path: Path) -> list[str]:
    """Errors of a strict parser of HTML in a file, with their line and column."""
    html5lib = pytest.importorskip("html5lib", reason="needs html5lib: pip install html5lib")
    parser = html5lib.HTMLParser()
    parser.parse(path.read_text(encoding="utf-8"))
    return [f"{path.name}:{line}:{column}: {code} {data}" for (line, column), code, data in parser.errors]
