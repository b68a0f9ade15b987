"""The sentences under a run's figures follow from its numbers."""

from __future__ import annotations

import pytest

from nanograd_gpt.training.metrics import Metrics
from nanograd_gpt.viz.captions import loss_caption, perplexity, perplexity_caption, surprise_caption, training_caption
from nanograd_gpt.viz.curves import Curves

NAN = float("nan")


def curves(train: list[float], val: list[float]) -> Curves:
    return Curves([float(i) for i in range(len(val))], [10.0 * i for i in range(len(val))], train, val)


@pytest.mark.parametrize(
    ("train", "val", "says"),
    [
        ([6, 3, 1], [6, 4, 5], "lowest at epoch 1.0 (4.000) and then rose to 5.000 while training loss fell from 3.000 "
                               "to 1.000: the model overfits from there on."),
        ([6, 3, 4], [6, 4, 5], "rose to 5.000, and training loss did not fall either (3.000, then 4.000): training is "
                               "unstable."),
        ([6, 3, 2], [6, 4, 3], "Validation loss is lowest at the last evaluation (3.000, epoch 2.0): longer"),
        ([6, 3, 1], [6, 4, 4.01], "lowest at epoch 1.0 (4.000) and has changed by less than 1% since (4.010)."),
        ([6, 3, 1], [6, 4, NAN], "Validation loss is lowest at the last evaluation (4.000, epoch 1.0)"),
        ([6], [6], "too few for a trend"),
        ([], [], "too few for a trend"),
        ([1, NAN], [1, 2], "training is unstable"),
    ],
)  # fmt: skip
def test_overfitting_is_stated_where_it_happens_and_nowhere_else(
    train: list[float], val: list[float], says: str
) -> None:
    caption = loss_caption(curves(train, val))
    assert says in caption
    assert ("overfits" in caption) == ("overfits" in says)


def metrics(losses: list[float | None], train_loss: float | None = 0.64) -> Metrics:
    """A run with one epoch of 20 tokens before its evaluation, after the last update."""
    steps = [{"step": i, "epoch": 1, "tokens": 10 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    last = {"step": 9, "epoch": 9, "tokens": 10 * len(losses), "train_loss": train_loss, "val_loss": 5.0}
    return Metrics(steps, [last], starts=[{"tokens_per_epoch": 20}])


def test_the_gap_between_updates_and_evaluations_is_dropouts() -> None:
    caption = training_caption(metrics([9.0, 1.3, 1.38]), 0.2)
    assert "with dropout (1.34 on average over the epoch" in caption
    assert "without (0.64)" in caption
    assert "with dropout" not in (without := training_caption(metrics([9.0, 1.3, 1.38]), 0.0))
    assert "1.34 on average" in without


@pytest.mark.parametrize(
    "run", [Metrics(), metrics([]), metrics([None]), metrics([1.0], None), metrics([float("inf")])]
)
@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
def test_a_run_with_hardly_any_numbers_has_a_caption(run: Metrics, drop_rate: float) -> None:
    assert training_caption(run, drop_rate).endswith(".")


def test_perplexities_are_put_into_words() -> None:
    caption = perplexity_caption(curves([0.64], [4.9]), 769)
    assert "between 1.90 equally likely tokens on training text, and 134.3 on validation text; " in caption
    assert "all 769." in caption
    assert "uniform" not in perplexity_caption(curves([0.64], [4.9]), None)


@pytest.mark.parametrize(
    ("loss", "text"),
    [(0.0, "1.00"), (4.5, "90.02"), (6.0, "403.4"), (20.0, "4.85e+08"), (701.0, "> 1e304"), (None, "nan")],
)
def test_perplexity_has_few_digits(loss: float | None, text: str) -> None:
    assert perplexity(loss) == text


def test_memorised_text_is_said_to_be_memorised() -> None:
    assert "the model has memorised the training text" in surprise_caption({"training": 0.4, "validation": 5.0})
    assert "the model has not memorised" in surprise_caption({"training": 4.8, "validation": 5.0})
    assert "memorised" not in surprise_caption({"training": 0.4})
