"""AdamW and clipping against PyTorch's, where it is installed: training the document's model, and by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # these import torch too
import oracle.book_model as book
from oracle.closeness import assert_all_close, assert_close, relative_error
from oracle.pair import Pair

from nanograd_gpt.errors import InputError
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.optim import AdamW, clip_grad_norm

torch.set_num_threads(1)

TRAINING = 1e-10

ADAMW: dict[str, dict[str, Any]] = {
    "the document's": {"lr": 4e-4, "weight_decay": 0.1},
    "short memory": {"lr": 5e-3, "betas": (0.7, 0.9), "eps": 1e-6, "weight_decay": 0.3},
    "no decay": {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-4, "weight_decay": 0.0},
    "no memory": {"lr": 1e-3, "betas": (0.0, 0.0), "weight_decay": 0.01},
}


# --- training the document's model


@pytest.mark.parametrize("settings", ADAMW.values(), ids=ADAMW)
@pytest.mark.parametrize("shape", ["plain", "shorter, with bias"])
def test_20_training_steps_give_the_same_losses_and_weights(shape: str, settings: dict[str, Any]) -> None:
    pair = Pair(shape)
    ours = AdamW(pair.ours.parameters(), **settings)
    theirs = torch.optim.AdamW(pair.theirs.parameters(), **settings)
    losses, their_losses = [], []
    for step in range(20):
        ids, targets = pair.batches[step % len(pair.batches)]
        x, y = torch.from_numpy(ids), torch.from_numpy(targets)
        their_losses.append(book.training_step(x, y, pair.theirs, theirs))
        ours.zero_grad()
        loss = pair.ours.loss(ids, targets)
        loss.backward()
        ours.step()
        losses.append(loss.item())
    assert their_losses[-1] < their_losses[1]
    assert_close(losses, their_losses, TRAINING, "losses")
    assert_all_close(pair.ours.state_dict(), pair.their_weights(), TRAINING)


def test_training_with_clipping_gives_the_same_losses() -> None:
    pair = Pair("plain")
    ours = AdamW(pair.ours.parameters(), lr=1e-2)
    theirs = torch.optim.AdamW(pair.theirs.parameters(), lr=1e-2)
    norms, their_norms = [], []
    for step in range(10):
        ids, targets = pair.batches[step % len(pair.batches)]
        theirs.zero_grad()
        book.calc_loss_batch(torch.from_numpy(ids), torch.from_numpy(targets), pair.theirs).backward()
        their_norms.append(torch.nn.utils.clip_grad_norm_(pair.theirs.parameters(), 1.0).item())
        theirs.step()
        ours.zero_grad()
        pair.ours.loss(ids, targets).backward()
        norms.append(float(clip_grad_norm(pair.ours.parameters(), 1.0)))
        ours.step()
    assert min(their_norms) > 1  # it did clip
    assert_close(norms, their_norms, TRAINING, "norms")
    assert_all_close(pair.ours.state_dict(), pair.their_weights(), TRAINING)


# --- the optimizer by itself

PARAMETERS = [(3, 4), (5,), (), (2, 1, 3), (7,)]


def parameters(dtype: Any = np.float64) -> tuple[list[Parameter], list[Any]]:
    rng = np.random.default_rng(8)
    arrays = [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in PARAMETERS]
    return [Parameter(a.copy()) for a in arrays], [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in arrays]


def give_gradients(ours: list[Parameter], theirs: list[Any], gradients: list[npt.NDArray[Any] | None]) -> None:
    for p, q, g in zip(ours, theirs, gradients, strict=True):
        if g is not None:
            (p * g).sum().backward()
            q.grad = torch.from_numpy(g.copy())


@pytest.mark.parametrize("settings", ADAMW.values(), ids=ADAMW)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_a_parameter_without_a_gradient_is_passed_over_and_its_steps_do_not_count(
    settings: dict[str, Any], dtype: Any, tolerance: float
) -> None:
    ours, theirs = parameters(dtype)
    optimizer, their_optimizer = AdamW(ours, **settings), torch.optim.AdamW(theirs, **settings)
    rng = np.random.default_rng(9)
    for step in range(24):
        optimizer.zero_grad()
        their_optimizer.zero_grad()
        gradients = [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in PARAMETERS]
        absent = [False, step % 3 == 1, step < 5, step % 2 == 0, step > 10]
        give_gradients(ours, theirs, [None if a else g for a, g in zip(absent, gradients, strict=True)])
        optimizer.step()
        their_optimizer.step()
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        state = their_optimizer.state[q]
        assert_close(p.data, q.detach().numpy(), tolerance, f"parameter {i}")
        assert_close(optimizer.state_dict()["exp_avg"][i], state["exp_avg"].numpy(), tolerance, f"mean {i}")
        assert_close(optimizer.state_dict()["exp_avg_sq"][i], state["exp_avg_sq"].numpy(), tolerance, f"square {i}")
        assert optimizer.steps[i] == int(state["step"])
    assert len(set(optimizer.steps)) > 3


# Not 0.1 in float32: PyTorch takes the rounded 0.9 from 1, and is 2.4e-7 off in every step
@pytest.mark.parametrize(
    ("dtype", "tolerance", "beta1"),
    [(np.float64, 1e-14, b) for b in (0.0, 0.1, 0.5, 0.9)] + [(np.float32, 1e-6, b) for b in (0.0, 0.125, 0.5, 0.9)],
)
def test_small_gradients_after_large_ones_move_a_parameter_as_pytorchs(
    dtype: Any, tolerance: float, beta1: float
) -> None:
    ours, theirs = parameters(dtype)
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (beta1, 0.5), "weight_decay": 0.0}
    optimizer, their_optimizer = AdamW(ours, **settings), torch.optim.AdamW(theirs, **settings)
    rng = np.random.default_rng(11)
    for size in [1e4, 1e-4, 1e-4, 1e4, *[1e-4] * 20]:
        optimizer.zero_grad()
        their_optimizer.zero_grad()
        give_gradients(ours, theirs, [np.asarray(size * rng.standard_normal(s), dtype) for s in PARAMETERS])
        optimizer.step()
        their_optimizer.step()
        for i, q in enumerate(theirs):
            mean = their_optimizer.state[q]["exp_avg"].numpy()
            assert_close(optimizer.state_dict()["exp_avg"][i], mean, tolerance, f"mean {i}")
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(p.data, q.detach().numpy(), tolerance, f"parameter {i}")


GROUPS: dict[str, list[dict[str, Any]]] = {
    "one of all": [{"lr": 5e-3, "weight_decay": 0.3}],
    "own rates": [{"lr": 1e-2}, {}],
    "own everything": [{"lr": 1e-2, "betas": (0.1, 0.9)}, {"eps": 1e-3, "weight_decay": 0.0}, {"lr": 0.0}],
}


def grouped(tensors: list[Any], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Dealt out to the groups in turn."""
    return [{"params": tensors[i :: len(own)], **settings} for i, settings in enumerate(own)]


@pytest.mark.parametrize("own", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_parameter_groups_and_a_schedule_of_them_move_parameters_as_pytorchs(
    own: list[dict[str, Any]], dtype: Any, tolerance: float
) -> None:
    ours, theirs = parameters(dtype)
    pairs = [(p, q) for i in range(len(own)) for p, q in [*zip(ours, theirs, strict=True)][i :: len(own)]]
    optimizer = AdamW(grouped(ours, own), lr=1e-3, weight_decay=0.1)
    their_optimizer = torch.optim.AdamW(grouped(theirs, own), lr=1e-3, weight_decay=0.1)
    factor = [0.0, 0.5, 1.0, 0.25, 2.0, 0.0, 1.0]
    schedule = torch.optim.lr_scheduler.LambdaLR(their_optimizer, lambda step: factor[step % len(factor)])
    rng = np.random.default_rng(12)
    base = optimizer.lr
    for step in range(20):
        optimizer.zero_grad()
        their_optimizer.zero_grad()
        gradients = [np.asarray(rng.standard_normal(shape), dtype=dtype) for shape in PARAMETERS]
        absent = [False, step % 3 == 1, step < 5, step % 2 == 0, step > 10]
        give_gradients(ours, theirs, [None if a else g for a, g in zip(absent, gradients, strict=True)])
        optimizer.lr = base * factor[step % len(factor)]
        for group, their_group in zip(optimizer.param_groups, their_optimizer.param_groups, strict=True):
            assert group["lr"] == pytest.approx(their_group["lr"], rel=1e-15)
            for key in ("betas", "eps", "weight_decay", "initial_lr"):
                assert group[key] == their_group[key]
        optimizer.step()
        their_optimizer.step()
        schedule.step()
    for i, (p, q) in enumerate(pairs):
        assert optimizer.parameters[i] is p
        assert_close(p.data, q.detach().numpy(), tolerance, f"parameter {i}")


@pytest.mark.parametrize("shape", ["plain", "qkv_bias"])
def test_training_the_documents_model_with_decay_on_matrices_alone(shape: str) -> None:
    pair = Pair(shape)
    ours = AdamW(decay_groups(pair.ours, 0.3), lr=5e-3)
    matrices, others = ([p for p in pair.theirs.parameters() if (p.ndim >= 2) == two] for two in (True, False))
    theirs = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}], lr=5e-3
    )
    for step in range(10):
        ids, targets = pair.batches[step % len(pair.batches)]
        book.training_step(torch.from_numpy(ids), torch.from_numpy(targets), pair.theirs, theirs)
        ours.zero_grad()
        pair.ours.loss(ids, targets).backward()
        ours.step()
    assert_all_close(pair.ours.state_dict(), pair.their_weights(), TRAINING)


def test_what_pytorch_takes_for_parameters_is_taken_here() -> None:
    for made in (iter, tuple, list, lambda ps: (p for p in ps), lambda ps: [{"params": p} for p in ps]):
        ours, theirs = parameters()
        optimizer, their_optimizer = AdamW(made(ours)), torch.optim.AdamW(made(theirs))
        assert [len(g["params"]) for g in optimizer.param_groups] == [
            len(g["params"]) for g in their_optimizer.param_groups
        ]
        assert all(p is q for p, q in zip(optimizer.parameters, ours, strict=True))


def refused_parameters(p: Any) -> dict[str, Any]:
    return {
        "a tensor": p,
        "a set": [{"params": {p}}],
        "an operation's": [p * 2],
        "twice": [{"params": [p]}, {"params": [p]}],
        "none": [],
        "arrays": [np.ones(2)],
    }


@pytest.mark.parametrize("case", refused_parameters(1.0))
def test_what_pytorch_refuses_for_parameters_is_refused_here(case: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        torch.optim.AdamW(refused_parameters(torch.ones(2, requires_grad=True))[case])
    with pytest.raises(InputError):
        AdamW(refused_parameters(Parameter(np.ones(2)))[case])


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zeroing_gradients_leaves_what_pytorch_leaves(set_to_none: bool) -> None:
    ours, theirs = parameters()
    optimizer, their_optimizer = AdamW(ours), torch.optim.AdamW(theirs)
    give_gradients(ours, theirs, [np.ones(shape) if i % 2 else None for i, shape in enumerate(PARAMETERS)])
    optimizer.zero_grad(set_to_none=set_to_none)
    their_optimizer.zero_grad(set_to_none=set_to_none)
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or not p.grad.any()


def test_a_step_without_any_gradient_changes_nothing_here_and_there() -> None:
    ours, theirs = parameters()
    before = [p.data.copy() for p in ours]
    AdamW(ours).step()
    torch.optim.AdamW(theirs).step()
    for p, q, old in zip(ours, theirs, before, strict=True):
        np.testing.assert_array_equal(p.data, old)
        np.testing.assert_array_equal(q.detach().numpy(), old)


def test_defaults_are_pytorchs() -> None:
    ours, theirs = parameters()
    optimizer = AdamW(ours)
    group = torch.optim.AdamW(theirs).param_groups[0]
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (
        group["lr"],
        group["betas"],
        group["eps"],
        group["weight_decay"],
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e3, float("inf")])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e6])
def test_clipping_gives_pytorchs_norm_and_gradients(
    max_norm: float, scale: float, dtype: Any, tolerance: float
) -> None:
    ours, theirs = parameters(dtype)
    rng = np.random.default_rng(10)
    gradients: list[Any] = [np.asarray(scale * rng.standard_normal(s), dtype=dtype) for s in PARAMETERS]
    gradients[1] = None
    give_gradients(ours, theirs, gradients)
    norm, their_norm = clip_grad_norm(ours, max_norm), torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert_close(norm, their_norm.numpy(), tolerance, "norm")
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        if gradients[i] is None:
            assert p.grad is None
        else:
            assert_close(p.grad, q.grad.numpy(), tolerance, f"gradient {i}")
            assert (relative_error(p.grad, gradients[i]) > 0.1) == (their_norm.item() > max_norm)
