"""A sentence for each figure of a run, from the run's numbers: what to see in it."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite
from typing import Any

import numpy as np

from ..training.metrics import Event, Metrics
from .curves import Curves, number, tokens_per_epoch

SKILLED = 0.9  # of the last value
SAME = 0.01  # losses that differ by less than 1% count as equal


def training_caption(metrics: Metrics, drop_rate: float) -> str:
    """Compare the training loss of updates, with dropout, to that of evaluations, without."""
    measured = [e for e in metrics.evaluations if isfinite(number(e["train_loss"])) and e["step"] >= 0]
    if not measured or not metrics.steps:
        return f"Loss of each update, measured {'with' if drop_rate else 'without'} dropout, and at evaluations."
    last, per_epoch = measured[-1], tokens_per_epoch(metrics)
    recent = [number(s["loss"]) for s in metrics.steps if last["tokens"] - per_epoch < s["tokens"] <= last["tokens"]]
    known = [loss for loss in recent if isfinite(loss)]
    mean = f"{np.mean(known):.2f}" if known else "nan"
    evaluated = f"{number(last['train_loss']):.2f}"
    if drop_rate:
        return (
            f"Training loss has two values: updates measure it with dropout ({mean} on average over the epoch before "
            f"the last evaluation), evaluations without ({evaluated}), so a gap between these curves is expected."
        )
    return (
        f"Without dropout, updates and evaluations measure nearly the same training loss ({mean} on average over the "
        f"epoch before the last evaluation, and {evaluated} in it); an update's loss is measured before the update."
    )


def loss_caption(curves: Curves) -> str:
    """State where validation loss was lowest, and whether the model overfits from there on."""
    known = [i for i, loss in enumerate(curves.val_losses) if isfinite(loss)]
    if len(known) < 2:
        return "Fewer than two evaluations have a finite validation loss, too few for a trend."
    best, last = min(known, key=lambda i: curves.val_losses[i]), known[-1]
    lowest, final = f"{curves.val_losses[best]:.3f}", f"{curves.val_losses[last]:.3f}"
    at = f"epoch {curves.epochs[best]:.1f}"
    if best == last:
        return (
            f"Validation loss is lowest at the last evaluation ({lowest}, {at}): longer training may lower it further."
        )
    if curves.val_losses[last] <= (1 + SAME) * curves.val_losses[best]:
        return f"Validation loss was lowest at {at} ({lowest}) and has changed by less than 1% since ({final})."
    before, after = curves.train_losses[best], curves.train_losses[last]
    rose = f"Validation loss was lowest at {at} ({lowest}) and then rose to {final}"
    if after < before:
        return f"{rose} while training loss fell from {before:.3f} to {after:.3f}: the model overfits from there on."
    return f"{rose}, and training loss did not fall either ({before:.3f}, then {after:.3f}): training is unstable."


def perplexity_caption(curves: Curves, vocab_size: int | None) -> str:
    """Put the last perplexities into words."""
    uniform = f"; a uniform guess is between all {vocab_size:,}" if vocab_size else ""
    training, validation = perplexity(curves.train_losses[-1]), perplexity(curves.val_losses[-1])
    return (
        f"At the last evaluation the model is as uncertain as if it chose between {training} equally likely tokens on "
        f"training text, and {validation} on validation text{uniform}."
    )


def tales_caption(scores: Sequence[Event]) -> str:
    """State when each skill reached nine tenths of its last value: a skill learned later is a harder one."""
    if not scores:
        return ""
    last = scores[-1]
    skills = []
    for what, part, whole in (("grammatical", "grammatical", "sentences"), ("consistent", "consistent", "tested")):
        shares = [score[part] / (score[whole] or 1) for score in scores]
        reached = next(s["tokens"] for s, share in zip(scores, shares, strict=True) if share >= SKILLED * shares[-1])
        skills.append(f"{shares[-1]:.0%} of sentences are {what} (nine tenths of that after {reached:,} tokens)")
    return (
        f"Of {last['tales']} tales written by the model at the last evaluation, {' and '.join(skills)}; "
        f"{last['copies']} of the tales {'stands' if last['copies'] == 1 else 'stand'} word for word in the training "
        "text."
    )


def surprise_caption(means: dict[str, float]) -> str:
    """Compare the mean surprise of the training and validation text: memorised or not."""
    text = " and ".join(f"{mean:.2f} nats per token on {name} text" for name, mean in means.items())
    text = f"Mean surprise, minus the log of a token's probability: {text}"
    if len(means) < 2:
        return f"{text}."
    training, validation = means.values()
    if training < validation / 2:
        return f"{text}: the model has memorised the training text, which has little colour, but not the other."
    return f"{text}: the model has not memorised its training text."


def perplexity(loss: Any) -> str:
    """exp(loss) with one or two decimals, or as a power of ten."""
    value = number(loss)
    if value > 700:  # exp overflows a little above
        return "> 1e304"
    return f"{exp(value):,.{2 if value < 4.6 else 1}f}" if value < 14 else f"{exp(value):.2e}"
