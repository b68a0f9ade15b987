"""comparison.html: the losses of several runs in figures, and what differs in tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from svg_text import smallest_text

from nanograd_gpt.errors import InputError
from nanograd_gpt.viz.compare import MOST_RUNS, comparison_figures, read_runs, write_comparison
from nanograd_gpt.viz.figure_files import svgs
from nanograd_gpt.viz.plots import NARROW, rendered

CONFIG = '[model]\nvocab_size = {V}\n[data]\ndata = "{data}"\n[training]\nlr = {lr}\n'


def new_run(directory: Path, losses: list[float], lr: float = 0.001, V: int = 99, data: str = "tales") -> Path:
    """A run of one update to an evaluation; its validation loss is 1 above the training loss."""
    directory.mkdir(parents=True)
    events: list[dict[str, Any]] = [{"event": "start", "resumed_from": -1, "n_parameters": 1234}]
    for i, loss in enumerate(losses):
        where = {"step": i, "epoch": 1, "tokens": 100 * (i + 1)}
        events.append({"event": "step", **where, "loss": loss, "lr": lr, "seconds": 0.5 * (i + 1)})
        events.append({"event": "evaluation", **where, "train_loss": loss, "val_loss": loss + 1})
    text = "".join(json.dumps(event) + "\n" for event in events)
    (directory / "metrics.jsonl").write_text(text, encoding="utf-8")
    (directory / "config.toml").write_text(CONFIG.format(V=V, data=data, lr=lr), encoding="utf-8")
    return directory


def page_of(out: Path, *runs: Path) -> str:
    found = read_runs(runs)
    return write_comparison(found, out, svgs(comparison_figures(found))).read_text(encoding="utf-8")


def test_the_figures_have_a_curve_of_each_run(tmp_path: Path) -> None:
    runs = read_runs([new_run(tmp_path / "a", [5, 4, 3.5]), new_run(tmp_path / "b", [5, 2])])
    figures = comparison_figures(runs)
    by_tokens, training, by_updates = (figure.axes[0] for figure in figures.values())
    assert [list(line.get_ydata()) for line in by_tokens.lines] == [[6, 5, 4.5], [6, 3]]
    assert [list(line.get_xdata()) for line in by_tokens.lines] == [[100, 200, 300], [100, 200]]
    assert [list(line.get_ydata()) for line in training.lines] == [[5, 4, 3.5], [5, 2]]
    assert [list(line.get_xdata()) for line in by_updates.lines] == [[0, 1, 2], [0, 1]]
    assert [line.get_label() for line in by_tokens.lines] == ["1  a", "2  b"]


@pytest.mark.parametrize("narrow", [False, True])
def test_as_many_runs_as_are_allowed_can_be_told_apart_and_read(tmp_path: Path, narrow: bool) -> None:
    paths = [new_run(tmp_path / f"{i}-a-run-with-a-rather-long-name", [5, 4 + i / 9]) for i in range(MOST_RUNS)]
    figures = comparison_figures(read_runs(paths), narrow)
    figure = figures["validation-by-tokens"]
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == MOST_RUNS
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == (NARROW if narrow else 4)
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width
    assert smallest_text(rendered(figure, "svg").decode()) >= 11


def test_the_page_has_results_and_the_settings_that_differ(tmp_path: Path) -> None:
    page = page_of(tmp_path, new_run(tmp_path / "a", [5, 3, 3.5]), new_run(tmp_path / "<b>", [5, 2], lr=0.002))
    for row in (
        "Parameters</th><td>1,234</td><td>1,234",
        "Updates</th><td>3</td><td>2",
        "Last validation loss</th><td>4.500</td><td>3.000",
        "Lowest validation loss</th><td>4.000</td><td>3.000",
        "after update</th><td>1</td><td>1",
        "Tokens per second</th><td>200</td><td>200",
        "lr</th><td>0.001</td><td>0.002",
    ):
        assert row in page
    assert 'scope="row">vocab_size' not in page
    assert "do not compare" not in page
    assert "At their last evaluations, &lt;b&gt; is lowest (3.000), and a highest (4.500)." in page
    assert "<b>" not in page


def test_losses_of_other_vocabularies_and_texts_are_said_not_to_compare(tmp_path: Path) -> None:
    runs = new_run(tmp_path / "a", [5]), new_run(tmp_path / "b", [5], V=98, data="story")
    assert "different vocabularies and texts: their losses per token do not compare directly" in page_of(
        tmp_path, *runs
    )


def test_runs_without_updates_and_settings_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    begun, same = new_run(tmp_path / "a", []), new_run(tmp_path / "b", [])
    page = page_of(tmp_path, begun, same)
    assert "Fewer than two of these runs have a finite loss" in page
    assert "None: these runs have the same settings." in page
    (begun / "config.toml").unlink()
    assert "lr</th><td>not set</td><td>0.001" in page_of(tmp_path, begun, same)


def test_runs_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [new_run(tmp_path / place / "tiny", [5]) for place in ("a", "b")]
    assert [run.name for run in read_runs(paths)] == [str(path) for path in paths]


def test_a_run_given_twice_and_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path / "a", [5])
    with pytest.raises(InputError, match=r"^plot: .*a is given twice; name each run once$"):
        read_runs([run, run])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^plot: a is the same run as /.*a; name each run once$"):
        read_runs([run, Path("a")])
    with pytest.raises(InputError, match=r"^plot: 17 runs are given; a page compares at most 16$"):
        read_runs([run] * 17)
