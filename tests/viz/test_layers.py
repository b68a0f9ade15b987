"""The heat maps of updates, gradients and activations by layer, their caption and their table."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from svg_text import smallest_text

from nanograd_gpt.viz import heatmap
from nanograd_gpt.viz.heatmap import MAPS, RATIO_BOUNDS, plot_layers
from nanograd_gpt.viz.layers import layers_caption, layers_table
from nanograd_gpt.viz.palette import DARK, SCALE
from nanograd_gpt.viz.plots import NARROW, rendered


def events(n: int, n_layers: int = 2) -> list[dict[str, Any]]:
    """Ratios fall from 0.02 to 0.00002; the head has no activation, and one ratio was not measured."""
    blocks = [f"block {i}" for i in range(1, n_layers + 1)]
    found = []
    for i in range(n):
        ratio = 0.02 * 10 ** (-3 * i / max(1, n - 1))
        by_layer = dict.fromkeys(["embeddings", *blocks, "head"], ratio)
        stream = {layer: 1.5 + depth for depth, layer in enumerate(["embeddings", *blocks])}
        found.append(
            {"step": 10 * i, "epoch": 1, "tokens": 500 * (10 * i + 1), "update_ratio": by_layer | {"block 1": None},
             "gradient_rms": by_layer, "activation_rms": stream}
        )  # fmt: skip
    return found


@pytest.mark.parametrize("width", [NARROW, 9.0])
@pytest.mark.parametrize("n", [1, 2, 40, 400])
def test_nothing_is_cut_and_text_is_11_pixels_or_more(n: int, width: float) -> None:
    figure = plot_layers(events(n), tokens_per_epoch=9000, width=width)
    figure.draw_without_rendering()
    inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert inside.x0 >= -1
    assert inside.x1 <= figure.bbox.x1 + 1
    assert smallest_text(rendered(figure, "svg").decode(), 358 if width == NARROW else 792) >= 11


def test_every_map_has_a_title_a_unit_and_its_layers() -> None:
    figure = plot_layers(events(5), tokens_per_epoch=9000)
    maps, bars = figure.axes[: len(MAPS)], [axes for axes in figure.axes if axes.get_ylabel()]
    assert [axes.get_title(loc="left") for axes in maps] == [one.title for one in MAPS]
    assert [bar.get_ylabel() for bar in bars] == [one.unit for one in MAPS]
    layers = [[label.get_text() for label in axes.get_yticklabels()] for axes in maps]
    assert layers == [["Embeddings", "Block 1", "Block 2", "Head"]] * 2 + [["Embeddings", "Block 1", "Block 2"]]
    assert maps[-1].get_xlabel() == "Tokens seen"
    assert [label.get_text() for label in bars[0].get_yticklabels()] == [f"{bound:g}" for bound in RATIO_BOUNDS]


def test_a_cell_has_the_colour_of_its_value_and_none_has_one_if_nothing_was_measured() -> None:
    figure = plot_layers(events(4))
    cells = {patch.get_facecolor()[:3]: patch.get_path().get_extents() for patch in figure.axes[0].patches}
    levels = {round(255 * rgb[0]): extent for rgb, extent in cells.items()}
    first, last = levels[int(SCALE[-1][1:3], 16)], levels[int(SCALE[0][1:3], 16)]
    assert (first.x0, first.x1) == (500, 5500), "0.02 is above all bounds"
    assert (last.x0, last.x1) == (15500, 20500)
    rows = {y for patch in figure.axes[0].patches for y in np.round(patch.get_path().vertices[:, 1], 1)}
    assert rows == {-0.5, 0.5, 1.5, 2.5, 3.5}, "row 1 is empty, between 0.5 and 1.5"
    assert not any(patch.get_path().contains_point((3000, 1)) for patch in figure.axes[0].patches)


def test_each_colour_of_the_scale_has_a_dark_one_and_both_run_one_way() -> None:
    light = [int(color[1:3], 16) for color in SCALE]
    dark = [int(DARK[color][1:3], 16) for color in SCALE]
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)


def test_a_long_run_and_a_deep_model_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heatmap, "MOST_LABELS", 14)
    figure = plot_layers(events(5000, n_layers=48))
    assert len(figure.axes[0].get_yticks()) <= 14
    assert len(rendered(figure, "svg")) < 300_000


def test_the_bounds_part_the_values_evenly_and_are_the_numbers_that_are_shown() -> None:
    bounds = heatmap._bounds([1.0, 64.0, None, 0.0])
    assert bounds == [2, 4, 8, 16, 32]
    assert heatmap._bounds([3.0, 3.0]) == [3]
    assert heatmap._bounds([None]) == list(RATIO_BOUNDS)


def test_the_caption_names_the_smallest_and_the_largest_update() -> None:
    found = events(2)
    found[-1]["update_ratio"]["head"] = 0.0015
    caption = layers_caption(found)
    assert "At update 10, an update changes the weights by 0.02 (embeddings) to 1.5 (head) thousandths" in caption
    assert "rms of 1.5 after the embeddings and 3.5 after block 2" in caption
    assert layers_caption([]) == ""
    nothing = {"step": 3, **{one.field: {"<b>": None} for one in MAPS}}
    assert layers_caption([nothing]).endswith("At update 3, nothing was measured.")
    assert "&lt;b&gt;" in layers_table([nothing])


def test_the_table_has_the_first_and_the_last_measurement() -> None:
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", layers_table(events(3)))
    cells = {name: re.findall("<td>(.*?)</td>", row) for name, row in rows}
    assert cells["Embeddings"] == ["20", "0.02", "20", "0.02", "1.5", "1.5"]
    assert cells["Block 1"][:2] == ["", ""]
    assert cells["Head"][4:] == ["", ""]
    assert layers_table([]) == ""
