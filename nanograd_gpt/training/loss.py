"""Loss of a batch, of a loader, and on both loaders: book sections 5.1 and 5.2."""

from __future__ import annotations

from typing import NamedTuple

from ..arguments import whole_number
from ..backend.contract import Ints
from ..backend.select import Device
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..parallel.ranks import ALONE, Ranks
from ..tensor import Tensor
from .data import DataLoader


class Evaluation(NamedTuple):
    """Mean losses in nats per token."""

    train_loss: float
    val_loss: float


def calc_loss_batch(input_batch: Ints, target_batch: Ints, model: GPTModel, device: Device) -> Tensor:
    """inputs (B, T), targets (B, T)  ->  mean cross-entropy ()

    device is the book's argument and unused: the model moves batches to its own device.
    """
    del device
    return model.loss(input_batch, target_batch)


def calc_loss_loader(
    data_loader: DataLoader,
    model: GPTModel,
    device: Device,
    num_batches: int | None = None,
    *,
    ranks: Ranks = ALONE,
) -> float:
    """Average the batches' mean losses over the first num_batches of a pass, or all; nan without batches.

    A short last batch has the same weight as a full one, as in the book.  With `ranks`, each computes its rows.
    Raises InputError for num_batches below 1.
    """
    if len(data_loader) == 0:
        return float("nan")
    n = len(data_loader)
    if num_batches is not None:
        n = min(n, whole_number("num_batches", num_batches, 1))
    losses, rows = [], []
    for i, (input_batch, target_batch) in enumerate(data_loader):
        if i == n:
            break
        rows.append(len(input_batch))
        losses.append(calc_loss_batch(input_batch, target_batch, model, device).item() if rows[-1] else 0.0)
    total_loss = 0.0
    for loss in ranks.mean_losses(losses, rows):  # not sum(), whose bits depend on Python's version
        total_loss += loss
    return total_loss / n


def evaluate_model(
    model: GPTModel,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: Device,
    eval_iter: int,
    *,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Compute the loss over eval_iter batches of each loader, without dropout; leaves the model in training mode.

    A shuffled training loader draws a new order from its stream for each evaluation, as in the book.
    """
    with inference_mode(model):
        evaluation = Evaluation(
            calc_loss_loader(train_loader, model, device, num_batches=eval_iter, ranks=ranks),
            calc_loss_loader(val_loader, model, device, num_batches=eval_iter, ranks=ranks),
        )
    model.train()
    return evaluation
