"""A graph that needs what an optimizer has overwritten raises an error; one that does not gives its gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nanograd_gpt import AdamW, Linear
from nanograd_gpt import functional as F
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

X = np.array([[1.0, -2.0, 0.5]], dtype=np.float32)
IDS = np.array([[1, 2, 3]])
MESSAGE = r"a parameter float32\[[\d, ]+\] was written to after forward .*; call backward\(\) before that, or run"

Change = Callable[[Linear, AdamW], None]


def layer() -> tuple[Linear, AdamW]:
    made = Linear(3, 2, rng=Generator(1))
    return made, AdamW(made.parameters(), lr=0.1)


def loaded(made: Linear, optimizer: AdamW) -> None:
    made.load_state_dict({name: array + 1 for name, array in made.state_dict().items()})


def stepped(made: Linear, optimizer: AdamW) -> None:
    made(Tensor(X)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("change", [stepped, loaded])
@pytest.mark.parametrize(
    "forward",
    [
        lambda made, x: made(x),
        lambda made, x: F.linear_gelu(x, made.weight, made.bias),
        lambda made, x: x @ made.weight.T,
        lambda made, x: x * made.weight[0],
        lambda made, x: x @ made.weight.reshape(3, 2),
        lambda made, x: made.weight * made.weight,
    ],
    ids=["linear", "fused", "a transposed view", "a row", "reshaped", "squared"],
)
def test_a_graph_that_read_the_old_values_cannot_be_walked_back(
    forward: Callable[[Linear, Tensor], Tensor], change: Change
) -> None:
    made, optimizer = layer()
    waiting = forward(made, Tensor(X, requires_grad=True)).sum()
    change(made, optimizer)
    with pytest.raises(RuntimeError, match=MESSAGE):
        waiting.backward()


@pytest.mark.parametrize("change", [stepped, loaded])
def test_a_graph_that_needs_no_values_gives_its_gradient(change: Change) -> None:
    made, optimizer = layer()
    assert made.bias is not None
    waiting = (made.bias + made.weight.sum(1) - 1.0).sum()
    change(made, optimizer)
    made.bias.zero_grad()
    waiting.backward()
    np.testing.assert_array_equal(made.bias.grad, [1, 1])  # type: ignore[arg-type]  # None would fail


def test_a_step_of_one_optimizer_leaves_the_graphs_of_another_alone() -> None:
    made, _ = layer()
    waiting = made(Tensor(X)).sum()
    other, optimizer = layer()
    stepped(other, optimizer)
    waiting.backward()
    np.testing.assert_array_equal(made.weight.grad, np.repeat(X, 2, axis=0))  # type: ignore[arg-type]  # None would fail


def test_two_losses_of_a_model_are_walked_back_before_the_step_or_not_at_all() -> None:
    model = GPTModel(GPTConfig(vocab_size=5, context_length=3, emb_dim=4, n_heads=2, n_layers=1), rng=Generator(1))
    optimizer = AdamW(model.parameters())
    first, second = model.loss(IDS, IDS), model.loss(IDS, IDS)
    first.backward()
    second.backward()
    optimizer.step()
    late = model.loss(IDS, IDS)
    model.loss(IDS, IDS).backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=MESSAGE):
        late.backward()
    model.loss(IDS, IDS).backward()  # a graph made after the step


def test_what_the_optimizer_did_before_forward_counts_for_nothing() -> None:
    made, optimizer = layer()
    stepped(made, optimizer)
    made(Tensor(X)).sum().backward()


def test_a_step_that_leaves_a_parameter_alone_leaves_its_graphs_alone() -> None:
    first, second = Linear(3, 2, rng=Generator(1)), Linear(3, 2, rng=Generator(2))
    optimizer = AdamW([*first.parameters(), *second.parameters()])
    one, other = first(Tensor(X)).sum(), second(Tensor(X, requires_grad=True)).sum()
    one.backward()
    optimizer.step()
    other.backward()
    np.testing.assert_array_equal(second.weight.grad, np.repeat(X, 2, axis=0))  # type: ignore[arg-type]  # None would fail


def test_loading_one_model_leaves_the_graphs_of_another_in_the_same_optimizer_alone() -> None:
    first, second = Linear(3, 2, rng=Generator(1)), Linear(3, 2, rng=Generator(2))
    optimizer = AdamW([*first.parameters(), *second.parameters()])
    waiting = second(Tensor(X)).sum()
    loaded(first, optimizer)
    waiting.backward()


def test_a_view_of_a_view_of_foreign_memory_is_found() -> None:
    made = Linear(3, 2, rng=Generator(1))
    made.weight.data = np.frombuffer(bytearray(24), dtype=np.float32).reshape(2, 3)
    waiting = (made.weight.reshape(3, 2).reshape(6) * Tensor(np.ones(6, dtype=np.float32), requires_grad=True)).sum()
    made.load_state_dict({name: array.copy() for name, array in made.state_dict().items()})
    with pytest.raises(RuntimeError, match=MESSAGE):
        waiting.backward()
