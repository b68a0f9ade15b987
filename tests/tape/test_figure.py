"""The figure of a tape: its bars add up, it fits every screen, and it opens modules only as far as there is space."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from contrast import contrast
from tape.small import IDS, model_of

import nanograd_gpt as ng
from nanograd_gpt.tape.figure import CSS, LONGEST, MOST_ROWS, figure
from nanograd_gpt.tape.operation import Operation, Span
from nanograd_gpt.tape.tape import Tape

SVG = "{http://www.w3.org/2000/svg}"


def taped(n_layers: int = 2, **changed: int) -> Tape:
    model = model_of(n_layers=n_layers, **changed)
    with ng.record() as tape:
        model.loss(IDS, IDS).backward()
    return tape


def rows(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter(f"{SVG}g"))


def name_of(row: ET.Element) -> str:
    return row.find(f"{SVG}text").text  # type: ignore[union-attr, return-value]  # each row has one


def operation(path: str, forward: float, backward: float, name: str = "Add") -> Operation:
    return Operation(name, path, (), (1,), "float32", "here:1", 2048, Span(0, forward), Span(0, backward))


def test_a_module_has_the_time_of_what_is_inside_it() -> None:
    tape = [operation("a.b", 1, 2), operation("a.c", 3, 4), operation("", 5, 0)]
    svg = figure(tape, ms=20, on_gpu=False)
    shown = {name_of(row): "".join(row.findall(f"{SVG}text")[1].itertext()) for row in rows(svg)}
    assert shown == {
        "a": "4.00 + 6.00 ms · 4.0 KiB kept",
        "b": "1.00 + 2.00 ms · 2.0 KiB kept",
        "c": "3.00 + 4.00 ms · 2.0 KiB kept",
        "Add": "5.00 + 0.00 ms · 2.0 KiB kept",
    }
    widths = [float(bar.get("width", "").rstrip("%")) for bar in rows(svg)[0].iter(f"{SVG}rect")]
    assert widths == pytest.approx([40, 60])
    assert "5.00 of 20.0 ms outside operations." in svg


def test_a_small_model_is_shown_with_its_operations() -> None:
    names = [name_of(row) for row in rows(taped(n_layers=1)._repr_svg_())]
    assert names[:3] == ["tok_emb", "pos_emb", "Add"]
    assert {"trf_blocks", "norm1", "att", "CausalAttention", "ff", "out_head"} <= set(names)
    assert not any("operations" in name for name in names)


@pytest.mark.parametrize("n_layers", [4, 12, 48])
def test_a_large_model_is_collapsed_until_its_rows_fit(n_layers: int) -> None:
    tape = taped(n_layers)
    shown = rows(tape._repr_svg_())
    assert len(shown) <= MOST_ROWS
    assert any("operations)" in name_of(row) for row in shown)
    if n_layers == 12:
        assert sum(name_of(row).endswith("(9 operations)") for row in shown) == 12
    if n_layers == 48:
        assert "trf_blocks (432 operations)" in [name_of(row) for row in shown]


def test_names_are_text_and_long_ones_are_cut() -> None:
    svg = figure([operation("<b>&", 1, 1), operation("x" * 60, 1, 1)], 5, on_gpu=False)
    names = [name_of(row) for row in rows(svg)]
    assert names == ["<b>&", "x" * (LONGEST - 1) + "…"]
    assert "x" * 60 in svg


def test_it_has_an_axis_in_milliseconds_and_places_that_scale_while_text_does_not() -> None:
    root = ET.fromstring(taped()._repr_svg_())
    assert (root.get("width"), root.get("viewBox")) == ("100%", None)
    *ticks, unit = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "middle soft"]
    assert unit == "milliseconds"
    assert 2 <= len(ticks) <= 5
    assert float(ticks[0]) == 0  # type: ignore[arg-type]  # a tick has its number
    assert min(int(size) for size in re.findall(r"(\d+)px system-ui|font-size: (\d+)px", CSS)[0] if size) == 12
    assert re.findall(r"https?://[^\"]*", taped()._repr_svg_()) == ["http://www.w3.org/2000/svg"]


def test_text_can_be_read_in_light_and_dark() -> None:
    parts = CSS.split("@media (prefers-color-scheme: dark)")
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in parts)
    for colours in (light | {"paper": "#ffffff"}, dark):
        assert contrast(colours["ink"], colours["paper"]) >= 4.5
        assert contrast(colours["soft"], colours["paper"]) >= 4.5
        assert contrast(colours["forward"], colours["paper"]) >= 3
        assert contrast(colours["backward"], colours["paper"]) >= 3


def test_on_a_gpu_it_says_what_was_measured() -> None:
    assert "host time" in figure([operation("a", 1, 1)], 3, on_gpu=True)
    assert "host time" not in figure([operation("a", 1, 1)], 3, on_gpu=False)
