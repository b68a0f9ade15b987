"""The figures of a run, for its figures directory and for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curves import evaluation_curves, tokens_per_epoch
from .heatmap import plot_layers
from .plots import NARROW, plot_losses, plot_perplexity, plot_training
from .run_files import RunFiles
from .tales import plot_tales

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py


def run_figures(run: RunFiles, narrow: bool = False) -> dict[str, Figure]:
    """The training, loss, perplexity, layers and tales figures, those for which there is data.

    narrow: each for phones.  Perplexity is drawn on a logarithmic axis.
    """
    metrics, V, per_epoch = run.metrics, run.vocab_size, tokens_per_epoch(run.metrics)
    width, wider = (NARROW, NARROW) if narrow else (4.0, 9.0)  # inches; at 4, text on a phone is 11 pixels high
    figures: dict[str, Figure] = {}
    if metrics.steps or metrics.evaluations:
        figures["training"] = plot_training(
            metrics.steps,
            metrics.evaluations,
            vocab_size=V,
            max_norm=run.max_norm,
            tokens_per_epoch=per_epoch,
            width=wider,
        )
    if metrics.evaluations:
        curves = evaluation_curves(metrics)
        figures["loss"] = plot_losses(*curves, vocab_size=V, width=width)
        figures["perplexity"] = plot_perplexity(*curves[1:], vocab_size=V, tokens_per_epoch=per_epoch, width=width)
    if metrics.layers:
        figures["layers"] = plot_layers(metrics.layers, tokens_per_epoch=per_epoch, width=wider)
    if metrics.tales:
        figures["tales"] = plot_tales(metrics.tales, tokens_per_epoch=per_epoch, width=width)
    return figures
