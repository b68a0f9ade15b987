"""The curves of a run: each point is at the position in epochs where it was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanograd_gpt.cli.figures import write_figures
from nanograd_gpt.training.metrics import Event, Metrics, MetricsLog, read_metrics
from nanograd_gpt.viz.curves import MOST_SPEEDS, evaluation_curves, speeds, total_seconds
from nanograd_gpt.viz.plots import plot_losses

PER_EPOCH, TOKENS = 10, 640  # updates, tokens


def logged(directory: Path, steps: int, every: int, **start: object) -> Metrics:
    """The log of a run with 10 updates per epoch."""
    directory.mkdir(exist_ok=True)
    with MetricsLog(directory / "metrics.jsonl") as log:
        log.write("start", time="2026-01-02T03:04", n_parameters=5, resumed_from=-1, **start)
        for i in range(steps):
            where: Event = {"step": i, "epoch": 1 + i // PER_EPOCH, "tokens": TOKENS // PER_EPOCH * (i + 1)}
            log.write("step", **where, loss=2.0, lr=0.1, grad_norm=None, seconds=0.5)
            if i % every == 0:
                log.write("evaluation", **where, train_loss=3 - i / 100, val_loss=4 - i / 100)
    return read_metrics(directory / "metrics.jsonl")


@pytest.mark.parametrize("start", [{"tokens_per_epoch": TOKENS}, {}], ids=["logged", "from the steps"])
def test_evaluations_in_epochs_1_2_and_3_of_four_are_where_they_were_measured(tmp_path, start):
    curves = evaluation_curves(logged(tmp_path, 40, 14, **start))
    np.testing.assert_allclose(curves.epochs, [0.1, 1.5, 2.9])
    assert curves.tokens == [64, 960, 1856]


def test_loss_figure_and_report_have_the_same_epochs(tmp_path, monkeypatch):
    given = []

    def remembered(*arguments, **more):
        given.append(arguments)
        return plot_losses(*arguments, **more)

    logged(tmp_path, 40, 14, tokens_per_epoch=TOKENS)
    monkeypatch.setattr("nanograd_gpt.viz.run_figures.plot_losses", remembered)
    write_figures(tmp_path)
    figure, narrow = given  # the first is the page's for a wide screen, too
    assert narrow == figure
    np.testing.assert_allclose(figure[0], [0.1, 1.5, 2.9])


def test_a_run_that_ends_within_its_first_epoch_reaches_no_further(tmp_path):
    curves = evaluation_curves(logged(tmp_path, 5, 4, tokens_per_epoch=TOKENS))
    np.testing.assert_allclose(curves.epochs, [0.1, 0.5])


def test_weights_before_the_first_update_are_at_0():
    loaded = {"event": "evaluation", "step": -1, "epoch": 0, "tokens": 0, "train_loss": 2.0, "val_loss": None}
    curves = evaluation_curves(Metrics(evaluations=[loaded]))
    assert (curves.epochs, curves.tokens, curves.train_losses) == ([0], [0], [2])
    assert np.isnan(curves.val_losses).all()


def test_a_run_with_no_evaluation_has_empty_curves():
    assert evaluation_curves(Metrics()) == ([], [], [], [])


def timed(*steps: tuple[int, float]) -> list[dict[str, float]]:
    return [{"tokens": tokens, "seconds": seconds} for tokens, seconds in steps]


def test_speeds_are_those_of_spans_of_two_updates_or_more() -> None:
    assert speeds(timed((10, 1), (20, 2), (30, 3), (50, 4), (70, 5))) == [(30, 10), (70, 20)]
    assert len(speeds(timed(*((10 * i, i) for i in range(5000))))) <= 2 * MOST_SPEEDS


def test_a_span_over_a_resume_has_no_speed() -> None:
    assert speeds(timed((10, 5), (20, 6), (30, 1), (40, 2), (50, 3))) == [(50, 10)]


def test_steps_without_their_seconds_have_no_speed() -> None:
    assert speeds([{"tokens": 5, "loss": 1.0}, {"tokens": 6, "seconds": None}] * 9) == []
    assert speeds([]) == []


def test_the_time_of_a_resumed_run_is_that_of_all_its_sessions() -> None:
    assert total_seconds(timed((1, 4.0), (2, 5.0), (3, 1.0), (4, 2.5))) == 7.5
