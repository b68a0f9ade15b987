"""The loss of a loader, and the side effects of an evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from training.small import CONFIG, ascii_text, small_loader, small_model

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import is_grad_enabled, no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.training.loss import calc_loss_batch, calc_loss_loader, evaluate_model

Ints = npt.NDArray[np.int64]


class Watched(GPTModel):
    """Records its calls and their mode."""

    def __init__(self, drop_rate: float = 0.0) -> None:
        super().__init__({**CONFIG.to_dict(), "drop_rate": drop_rate}, rng=Generator(1))
        self.asked: list[tuple[list[int], bool, bool, Tensor]] = []

    def loss(self, ids: Ints, targets: Ints) -> Tensor:
        loss = super().loss(ids, targets)
        self.asked.append((ids[:, 0].tolist(), self.training, is_grad_enabled(), loss))
        return loss


class FirstId:
    """A stand-in for a model: a batch's loss is the mean of its windows' first ids."""

    def __init__(self) -> None:
        self.batches = 0

    def loss(self, ids: Ints, targets: Ints) -> Tensor:
        self.batches += 1
        return Tensor(np.array(ids[:, 0].mean()))


def test_a_batchs_loss_is_the_mean_cross_entropy_of_its_targets() -> None:
    model = small_model(dtype=np.float64)
    inputs, targets = next(iter(small_loader()))
    expected = F.cross_entropy(model(inputs).reshape(-1, CONFIG.vocab_size), targets.reshape(-1))
    assert calc_loss_batch(inputs, targets, model, "cpu").item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_batchs_loss_can_be_trained_on() -> None:
    model = small_model()
    calc_loss_batch(*next(iter(small_loader())), model, "cpu").backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("num_batches", [None, 1, 5])
def test_an_empty_loaders_loss_is_nan(num_batches: int | None) -> None:
    model: Any = FirstId()
    assert math.isnan(calc_loss_loader(small_loader(""), model, "cpu", num_batches))
    assert model.batches == 0


@pytest.mark.parametrize(("num_batches", "used"), [(None, 4), (1, 1), (3, 3), (4, 4), (5, 4), (1000, 4)])
def test_as_many_batches_are_used_as_asked_for_and_there_are(num_batches: int | None, used: int) -> None:
    model: Any = FirstId()
    loader = small_loader(ascii_text(33), batch_size=1, shuffle=False)  # windows begin with 0, 8, 16, 24
    assert calc_loss_loader(loader, model, "cpu", num_batches) == np.mean([0, 8, 16, 24][:used])
    assert model.batches == used


def test_a_short_last_batch_weighs_as_much_as_a_full_one() -> None:
    model: Any = FirstId()
    loader = small_loader(ascii_text(41), batch_size=4, shuffle=False)  # 0, 8, 16, 24 and then 32 alone
    assert calc_loss_loader(loader, model, "cpu") == (12 + 32) / 2


def test_an_evaluation_is_the_loss_of_both_loaders_over_eval_iter_batches() -> None:
    model, train, val = small_model(drop_rate=0.3), small_loader(seed=2), small_loader(batch_size=3, shuffle=False)
    evaluation = evaluate_model(model, train, val, "cpu", eval_iter=2)
    model.eval()
    with no_grad():
        expected = calc_loss_loader(small_loader(seed=2), model, "cpu", 2), calc_loss_loader(val, model, "cpu", 2)
    assert evaluation == expected
    assert (evaluation.train_loss, evaluation.val_loss) == expected
    assert evaluation.train_loss != evaluation.val_loss


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_every_part_of_the_model_in_training_mode(training: bool) -> None:
    model = small_model().train(training)
    evaluate_model(model, small_loader(), small_loader(shuffle=False), "cpu", 1)
    assert all(module.training for module in model.modules())


def test_an_evaluation_has_no_dropout_and_draws_none_of_its_numbers() -> None:
    model = Watched(drop_rate=0.5)
    before = model.rng.state()
    evaluate_model(model, small_loader(), small_loader(shuffle=False), "cpu", 3)
    assert {training for _, training, _, _ in model.asked} == {False}
    assert model.rng.state() == before


def test_an_evaluation_keeps_no_graph_and_touches_no_gradient() -> None:
    model = Watched()
    evaluate_model(model, small_loader(), small_loader(shuffle=False), "cpu", 2)
    assert [(recording, loss.requires_grad) for _, _, recording, loss in model.asked] == [(False, False)] * 4
    assert all(p.grad is None for p in model.parameters())
    assert is_grad_enabled()


def test_each_evaluation_draws_a_new_order_of_the_training_windows_and_none_of_validation() -> None:
    model, train, val = Watched(), small_loader(ascii_text(121)), small_loader(shuffle=False)
    for _ in range(5):
        evaluate_model(model, train, val, "cpu", eval_iter=1)
    firsts = [tuple(first) for first, *_ in model.asked]
    assert len(set(firsts[::2])) == 5
    assert len(set(firsts[1::2])) == 1
