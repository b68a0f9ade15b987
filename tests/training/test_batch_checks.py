"""A batch is moved to the device and range-checked once per array, on the way to its loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend import select
from nanograd_gpt.gpt import model as gpt_model
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.nn import layers
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.training.loss import calc_loss_batch

SIZES = {"vocab_size": 9, "context_length": 8, "emb_dim": 4, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
IDS = np.array([[0, 8, 3], [1, 2, 4]])
MOVERS: list[tuple[ModuleType, str]] = [
    (gpt_model, "to_device"),
    (gpt_model, "to_host"),
    (select, "to_host"),
]


class CountingIds(np.ndarray):
    """Ids that count how often their largest is asked for: a range check."""

    n_checks = 0

    def max(self, *args: Any, **kwargs: Any) -> Any:
        CountingIds.n_checks += 1
        return super().max(*args, **kwargs)


def test_the_loss_of_a_batch_moves_each_array_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[tuple[str, int]] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(array: Any, *args: Any) -> Any:
            calls[name, id(array)] += 1
            return function(array, *args)

        return counted

    model, targets = GPTModel(SIZES), IDS[:, ::-1]
    for module, name in MOVERS:
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    calc_loss_batch(IDS, targets, model, "cpu")
    assert calls == {(name, id(array)): 1 for name in ("to_device", "to_host") for array in (IDS, targets)}


def test_the_loss_of_a_batch_checks_the_range_of_each_array_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountingIds, "n_checks", 0)
    calc_loss_batch(IDS.view(CountingIds), IDS.view(CountingIds), GPTModel(SIZES), "cpu")
    assert CountingIds.n_checks == 2


def test_embedding_and_losses_on_their_own_check_their_ids() -> None:
    x, weight = Tensor(np.ones((3, 4))), Tensor(np.ones((9, 4)))
    outside = np.array([0, 9, -1])
    for call in (
        lambda: F.embedding(outside, weight),
        lambda: F.cross_entropy(x @ weight.T, outside),
        lambda: F.linear_cross_entropy(x, weight, outside),
        lambda: layers.Embedding(9, 4)(outside),
    ):
        with pytest.raises(IndexError, match=r"ids -1 \.\. 9 reach outside 0 \.\. 8"):
            call()
