"""A run's figures and report, from its metrics."""

from __future__ import annotations

from pathlib import Path

from ..training.metrics import read_metrics


def load_drawing() -> None:
    """Import matplotlib now, so that its memory counts in an estimate."""
    from ..viz import plots  # noqa: F401  # imported for its effect


def check_figures(run: Path) -> None:
    """Render a dummy figure and create the figures' directory, so that errors show before the training."""
    from ..viz.plots import plot_losses, rendered

    rendered(plot_losses([0.0, 1.0], [0, 1], [2.0, 1.0], [2.0, 1.0]), "png")
    (run / "figures").mkdir(parents=True, exist_ok=True)


def write_figures(run: Path) -> list[Path]:
    """Write the loss, perplexity and training figures and report.html; returns their paths.

    Raises InputError if the directory does not hold a run.
    """
    from ..viz.curves import evaluation_curves
    from ..viz.plots import plot_losses, plot_perplexity, plot_training, save_figure  # matplotlib is slow to import
    from ..viz.report import write_report

    metrics = read_metrics(run / "metrics.jsonl")
    figures = run / "figures"
    figures.mkdir(exist_ok=True)
    written: list[Path] = []
    if metrics.evaluations:
        curves = evaluation_curves(metrics)
        written += save_figure(plot_losses(*curves), figures / "loss")
        written += save_figure(plot_perplexity(*curves[1:]), figures / "perplexity")
    if metrics.steps:
        written += save_figure(plot_training(metrics.steps, metrics.evaluations), figures / "training")
    return [*written, write_report(run)]
