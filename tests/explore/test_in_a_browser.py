"""The page in a browser: chosen by tap, by key or by address, it shows the library's numbers to four digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import each_view, faults_of, open_page
from explore.pages import written

import nanograd_gpt as ng
from nanograd_gpt.explore import limits
from nanograd_gpt.generation.sampling import next_tokens

if TYPE_CHECKING:
    from playwright.sync_api import Page

DIGITS = 6e-4  # the largest relative error of four digits, and a little for float32


class Probabilities(ng.Generator):
    """A random stream that keeps the probabilities that it is asked to draw from."""

    seen: np.ndarray[Any, Any]

    def multinomial(self, probabilities: Any) -> Any:
        self.seen = probabilities
        return super().multinomial(probabilities)


def sampled(logits: Any, **settings: Any) -> Any:
    """logits (V,)  ->  the probabilities (V,) that the library samples from"""
    rng = Probabilities(1)
    next_tokens(logits[None], ng.Sampling(**settings), rng)
    return rng.seen[0]


def number(text: str) -> float:
    found = re.search(r"[+\u2212]?[\d.]+(?:e[-\u2212]?\d+)?", text)
    assert found is not None, text
    return float(found[0].replace("\u2212", "-")) / (100 if "%" in text else 1)


def rows_of(page: Page, table: str) -> Iterator[tuple[str, str | None, float]]:
    """Yield the name, the token's id and the number of each row of a table with bars."""
    for row in page.query_selector_all(f"#{table} tbody tr"):
        name, shown = row.query_selector("th"), row.query_selector("td.number")
        assert name is not None
        assert shown is not None
        yield name.inner_text(), row.get_attribute("data-id"), number(shown.inner_text())


def shown_distribution(page: Page) -> dict[int, float]:
    return {int(token): p for _, token, p in rows_of(page, "distribution") if token is not None}


def set_slider(page: Page, name: str, value: int) -> None:
    page.locator(f"#{name}").fill(str(value))


def check_distribution(page: Page, expected: Any) -> None:
    shown = shown_distribution(page)
    assert len(shown) >= 12
    assert {i: pytest.approx(expected[i], rel=DIGITS, abs=1e-9) for i in shown} == shown
    assert min(list(shown.values())[:12]) >= np.sort(expected)[::-1][11] * (1 - DIGITS)


def test_a_tapped_token_and_moved_sliders_show_the_librarys_numbers(tmp_path: Path) -> None:
    model, ids, path = written(tmp_path / "page.html")
    model.eval()
    t = 4
    with ng.no_grad():
        logits = model(ids[None]).data[0]
    with open_page(path) as page:
        page.locator(f"#token-{t}").click()
        assert page.locator(f"#token-{t}").get_attribute("aria-selected") == "true"
        assert page.url.endswith(f"#token={t}&block=0&head=0")
        assert f"Position {t}, " in page.locator("#status").inner_text()
        own = ng.explain_next(model, ids)[t - 1].actual
        assert own is not None
        assert number(page.locator("#fact-probability").inner_text()) == pytest.approx(own.probability, rel=DIGITS)
        assert page.locator("#fact-rank").inner_text().startswith(f"{own.rank} of")
        check_distribution(page, sampled(logits[t], temperature=1.0))
        set_slider(page, "temperature", 14)
        assert page.locator("#temperature-value").inner_text() == "0.70"
        check_distribution(page, sampled(logits[t], temperature=0.7))
        set_slider(page, "top-k", 20)
        expected = sampled(logits[t], temperature=0.7, top_k=20)
        check_distribution(page, expected)
        assert page.locator("#kept").inner_text().startswith(f"{(expected > 0).sum()} tokens of {len(expected)}")
        set_slider(page, "top-p", 60)
        expected = sampled(logits[t], temperature=0.7, top_k=20, top_p=0.6)
        check_distribution(page, expected)
        assert page.locator("#kept").inner_text().startswith(f"{(expected > 0).sum()} token")
        assert f"{100 * expected[ids[t + 1]]:.3g}"[:3] in page.locator("#next-text").inner_text()
        set_slider(page, "temperature", 0)
        assert next(rows_of(page, "distribution"))[1:] == (str(logits[t].argmax()), 1.0)
        page.locator("#reset").click()
        check_distribution(page, sampled(logits[t], temperature=1.0))


def test_the_other_numbers_of_a_token_are_the_librarys_too(tmp_path: Path) -> None:
    model, ids, path = written(tmp_path / "page.html")
    t = 6
    with open_page(path) as page:
        page.locator(f"#token-{t}").click()
        page.get_by_role("button", name="Block 2, head 1").click()
        assert page.locator("#h-head").inner_text() == "Block 2, head 1 (trf_blocks.2.att)"
        weights = ng.attention_weights(model, ids[None])[2, 0, 1, t]
        found = {int(name.split(":")[0]): value for name, _, value in rows_of(page, "weights")}
        assert found == {i: pytest.approx(weights[i], rel=DIGITS) for i in range(t + 1)}
        attribution = ng.token_attribution(model, ids[None], t + 1)[0]
        found = {int(name.split(":")[0]): value for name, _, value in rows_of(page, "influence")}
        assert found == {i: pytest.approx(attribution[i], rel=DIGITS, abs=1e-6) for i in range(t + 1)}
        with ng.record(values=True) as tape:
            model.eval().loss(ids[None, :-1], ids[None, 1:]).backward()
        cells = page.locator("#slopes tbody tr td:nth-of-type(1)").all_inner_texts()
        names = ["drop_emb", *(f"trf_blocks.{i}" for i in range(3))]
        lengths = [np.linalg.norm(tape[f"{name}.residual"].grad[0, t]) for name in names]
        assert [number(cell) for cell in cells] == [pytest.approx(x, rel=DIGITS) for x in lengths]
        path_cells = {
            str(row.get_attribute("data-step")): number(row.inner_text().split("\t")[1])
            for row in page.query_selector_all("#path tbody tr")
        }
        for name in names:
            length = np.linalg.norm(tape[f"{name}.residual"].value[0, t])
            assert path_cells[name] == pytest.approx(length, rel=DIGITS)
        units = tape["trf_blocks.2.ff.activations"].value[0, t]
        for name, _, value in rows_of(page, "units"):
            assert value == pytest.approx(units[int(name.removeprefix("unit "))], rel=DIGITS)
        lens = np.exp(ng.logit_lens(model, ids[None])[:, 0, t].astype(np.float64))
        lens /= lens.sum(-1, keepdims=True)
        rows = page.query_selector_all("#lens tbody tr")
        assert len(rows) == 3
        for block, row in enumerate(rows):
            for item in row.query_selector_all("li"):
                token, share = int(item.get_attribute("data-id") or -1), item.query_selector(".share")
                assert share is not None
                assert number(share.inner_text()) == pytest.approx(lens[block, token], rel=DIGITS)


def test_keys_alone_lead_everywhere(tmp_path: Path) -> None:
    _, ids, path = written(tmp_path / "page.html")
    with open_page(path, width=390) as page:
        last = len(ids) - 1

        def focused() -> str:
            return str(page.evaluate("document.activeElement.id"))

        page.keyboard.press("Tab")
        assert focused() == f"token-{last}", "one stop for all tokens"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        for key, t in (("ArrowLeft", last - 1), ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("End", last)):
            page.keyboard.press(key)
            assert focused() == f"token-{t}"
            assert page.locator("[aria-selected=true]").get_attribute("id") == f"token-{t}"
        page.keyboard.press("Tab")
        assert focused() == "previous"
        page.keyboard.press("Enter")
        assert page.locator("#fact-position").inner_text().startswith(f"{last - 1} of")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert focused() == "block"
        page.keyboard.press("2")
        page.keyboard.press("Tab")
        page.keyboard.press("1")
        assert page.locator("#h-head").inner_text().startswith("Block 2, head 1")
        seen = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.add(focused())
        assert {"temperature", "top-k", "top-p", "reset", "more-distribution"} <= seen
        page.locator("#top-p").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#top-p").get_attribute("aria-valuetext") == "0.99"
        page.locator("#more-distribution").focus()
        page.keyboard.press("Enter")
        assert focused() == "more-distribution"
        assert page.locator("#distribution tbody tr").count() > 100


def test_a_mouse_previews_a_token_and_an_address_leads_to_one(tmp_path: Path) -> None:
    _, ids, path = written(tmp_path / "page.html")
    with open_page(path) as page:
        page.locator("#token-2").hover()
        assert page.locator("#fact-position").inner_text().startswith("2 of")
        page.mouse.move(1, 1)
        assert page.locator("#fact-position").inner_text().startswith(f"{len(ids) - 1} of")
        page.evaluate("location.hash = 'token=3&block=1&head=1'")
        page.wait_for_function("document.querySelector('#h-head').textContent.startsWith('Block 1')")
        assert page.locator("#fact-position").inner_text().startswith("3 of")
        assert page.locator("#h-head").inner_text().startswith("Block 1, head 1")
        page.evaluate("location.hash = 'token=99&block=x&head=-1'")
        page.wait_for_function("document.querySelector('#h-head').textContent.startsWith('Block 0, head 0')")
        assert page.locator("#fact-position").inner_text().startswith(f"{len(ids) - 1} of")


def test_a_part_of_the_vocabulary_gives_the_same_probabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PART", 100)
    monkeypatch.setattr(limits, "LIKELIEST", 60)
    model, ids, path = written(tmp_path / "page.html")
    with ng.no_grad():
        logits = model.eval()(ids[None]).data[0, -1]
    with open_page(path) as page:
        for stop in (20, 8, 40):
            set_slider(page, "temperature", stop)
            expected = sampled(logits, temperature=stop / 20)
            check_distribution(page, expected)
            others = [p for name, _, p in rows_of(page, "distribution") if name.startswith("the other")]
            assert others == [pytest.approx(np.sort(expected)[::-1][60:].sum(), rel=DIGITS)]
        set_slider(page, "top-k", 15)
        check_distribution(page, sampled(logits, temperature=2.0, top_k=15))
        page.locator("#reset").click()
        set_slider(page, "top-p", 50)
        check_distribution(page, sampled(logits, temperature=1.0, top_p=0.5))


@each_view
def test_the_page_can_be_read(width: int, dark: bool, tmp_path: Path) -> None:
    _, _, path = written(tmp_path / "page.html")
    with open_page(path, width, dark=dark) as page:
        assert faults_of(page) == []
        page.locator("#token-3").click()
        page.locator("summary").click()
        for button in ("more-units", "more-distribution"):
            page.locator(f"#{button}").click()
        page.evaluate("scrollTo(0, 0)")  # where the bar with the token stands above what it would cover
        assert faults_of(page) == []


def test_a_prompt_of_one_token_shows_what_there_is(tmp_path: Path) -> None:
    _, _, path = written(tmp_path / "page.html", "t")
    with open_page(path, 390) as page:
        assert "a prompt of one token" in page.locator("#gradient-text").inner_text()
        assert page.locator("#fact-probability").inner_text().startswith("none")
        assert next(rows_of(page, "weights"))[2] == 1
        assert faults_of(page) == []
