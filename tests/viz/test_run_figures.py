"""The figures of a run in their two widths."""

from __future__ import annotations

import pytest
from svg_text import smallest_text

from nanograd_gpt.tales.checker import Score
from nanograd_gpt.training.metrics import Metrics
from nanograd_gpt.viz.heatmap import MAPS
from nanograd_gpt.viz.plots import rendered
from nanograd_gpt.viz.run_figures import run_figures
from nanograd_gpt.viz.run_files import RunFiles

STEPS = [{"step": i, "epoch": 1, "tokens": 64 * i, "loss": 7 - i / 9, "lr": 3e-4, "grad_norm": 1.0} for i in range(9)]
TALES = [{**step, **Score(50, 650, 600, 400, 300, 1)._asdict()} for step in STEPS[::2]]
LAYERS = [
    {**step, **{one.field: {"embeddings": 0.1, "block 0": step["loss"], "head": None} for one in MAPS}}
    for step in STEPS
]
EVALUATIONS = [{**step, "train_loss": step["loss"], "val_loss": 7 - step["step"] / 50} for step in STEPS[::2]]


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_text_is_11_pixels_or_more_in_the_columns_that_a_figure_is_for(narrow: bool) -> None:
    run = RunFiles(Metrics(starts=[], steps=STEPS, evaluations=EVALUATIONS, tales=TALES, layers=LAYERS), {}, {}, {})
    figures = run_figures(run, narrow)
    assert list(figures) == ["training", "loss", "perplexity", "layers", "tales"]
    # 792 pixels: see the style sheet
    columns = dict.fromkeys(figures, 358) | dict.fromkeys(("training", "layers"), 358 if narrow else 792)
    for name, figure in figures.items():
        assert smallest_text(rendered(figure, "svg").decode(), columns[name]) >= 11, name
