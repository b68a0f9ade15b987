"""README's tables agree with their files: verdicts, warnings, and contenders left out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import speed_figure
import speed_parts
from matplotlib.text import Text
from speed_parts import Target
from svg_text import smallest_text


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, "goal met"), (0.6, "goal met"), (0.61, "met"), (0.7, "met"), (0.71, "**missed**")]
)
def test_a_target_is_met_missed_or_better(value: float, verdict: str) -> None:
    assert Target("a step", 0.7, 0.6, value, "x").row() == ["a step", "0.7", "0.6", "x", verdict]


def test_every_target_of_the_project_is_there() -> None:
    limits = [(target.must, target.aim) for target in speed_parts.all_targets()]
    steps, texts = [(0.68, 0.60), (0.85, 0.75), (0.80, 0.65), (0.95, 0.85)], [(0.18, 0.15), (0.50, 0.45)]
    assert limits == [*steps, *texts, *texts, (0.75, 0.65), (0.85, 0.78), (1, 1), (10, 10), (8, 8)]


def samples(*totals: float) -> list[dict[str, float]]:
    return [{"forward": t / 2, "backward": t / 4, "optimizer": t / 4, "total": t} for t in totals]


@pytest.fixture
def facts() -> dict[str, Any]:
    """The results of a train step, in which ours is twice as fast."""
    return {
        "setup": {"n_layers": 1, "emb_dim": 2, "vocab_size": 3, "batch_size": 4, "length": 5},
        "samples": {"ours": samples(0.1, 0.1, 0.1), "best": samples(0.2, 0.2, 0.2)},
        "losses": {"ours": [3.0, 2.0], "best": [3.0, 2.00001]},
        "same_twice": {"ours": samples(0.1), "ours again": samples(0.1)},
        "failures": {"compiled": "compiled: prepare failed: no compiler"},
        "versions": {"torch": "9.9"},
        "environment": {"numpy": "2.0", "blas": ["openblas 0.3, 2 threads"], "processor": "A Processor"},
        "threads": 2,
        "quick": False,
        "too_noisy": False,
    }


def test_the_train_step_by_phase(facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_parts, "result", lambda name, folder="": facts)
    text = speed_parts.train_step()
    assert "| nanograd_gpt | 50.0 | 25.0 | 25.0 | 100.0 (100.0 to 100.0) | 200 |  |" in text
    assert "| PyTorch, best eager | 100.0 | 50.0 | 50.0 | 200.0 (200.0 to 200.0) | 100 | 0.50 (0.50 to 0.50) |" in text
    assert "Left out, compiled: prepare failed: no compiler." in text
    assert "nanograd_gpt against itself: 1.00 (1.00 to 1.00)." in text
    assert "before and after one update, 3.000000 and 2.000000, agree to 1.0e-05." in text
    assert text.endswith("A Processor, 2 threads; NumPy 2.0, PyTorch 9.9 (openblas 0.3).")


def test_noise_and_quick_runs_are_told(facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    facts |= {"quick": True, "too_noisy": True, "same_twice": {"ours": samples(0.1), "ours again": samples(0.2)}}
    monkeypatch.setattr(speed_parts, "result", lambda name, folder="": facts)
    text = speed_parts.train_step()
    assert "nanograd_gpt against itself: 0.50 (0.50 to 0.50): **too noisy**." in text
    assert "not a measurement" in text
    caveats = speed_parts._caveats(["train_124m.json"])
    assert "--quick" in caveats
    assert "Too noisy" in caveats


def test_the_figure_is_drawn_from_the_files(tmp_path: Path) -> None:
    speed_figure.write_figure(tmp_path / "speed.svg")
    assert ET.parse(tmp_path / "speed.svg").getroot().tag.endswith("svg")


def test_the_figure_says_which_way_is_better_and_the_units() -> None:
    units = [axes.get_xlabel() for axes in speed_figure.speed_figure().axes]
    step = "ms, lower is faster"
    assert units == [step, step, "tokens/s, higher is faster", "MB, lower is better"]


@pytest.mark.parametrize("name", ["speed.svg", "default_run.svg"])
def test_a_picture_of_the_readme_is_legible_on_a_phone_and_in_the_dark(name: str) -> None:
    svg = (speed_parts.RESULTS / name).read_text(encoding="utf-8")
    assert smallest_text(svg) >= 11
    assert svg.count("prefers-color-scheme:dark") == 1


def test_a_bar_without_phases_has_no_colour_of_a_phase() -> None:
    *steps, tokens, memory = speed_figure.speed_figure().axes
    phases = {patch.get_facecolor()[:3] for axes in steps for patch in axes.patches}
    assert len(phases) == 3
    for axes in (tokens, memory):
        assert {patch.get_facecolor()[:3] for patch in axes.patches}.isdisjoint(phases)


def test_no_text_of_the_figure_is_cut() -> None:
    figure = speed_figure.speed_figure()
    figure.draw_without_rendering()
    for axes in figure.axes:
        named = [text for text in axes.get_children() if isinstance(text, Text) and text.get_text()]
        texts = [axes.xaxis.label, *axes.get_yticklabels(), *named]
        assert len(texts) > 7
        for box in (text.get_window_extent() for text in texts):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
