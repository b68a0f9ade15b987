"""Against PyTorch, where it is installed: the document's model, its training, AdamW, clipping, and the operations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # these import torch too
import oracle.book_model as book
import torch.nn.functional as TF
from goldens import make_goldens
from oracle.closeness import assert_all_close, assert_close, relative_error

from nanograd_gpt.gpt.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.optim import AdamW, clip_grad_norm
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor

torch.set_num_threads(1)

Arrays = dict[str, npt.NDArray[Any]]
PRECISIONS = {np.float64: 1e-12, np.float32: 1e-5}
OPERATION = 1e-12
TRAINING = 1e-10

# vocabulary, context, width, heads, layers, bias of Q, K and V; then B and T
SHAPES = {
    "plain": (50, 8, 16, 2, 2, False, 3, 8),
    "qkv_bias": (50, 8, 16, 4, 2, True, 3, 8),
    "one row": (31, 8, 24, 3, 1, True, 1, 8),
    "shorter than the context": (31, 16, 12, 3, 2, False, 3, 5),
    "shorter, with bias": (31, 16, 12, 2, 3, True, 1, 7),
    "one token": (11, 4, 8, 2, 1, False, 3, 1),
    "one head, width 1 each": (11, 6, 4, 4, 1, True, 2, 6),
}
ADAMW: dict[str, dict[str, Any]] = {
    "the document's": {"lr": 4e-4, "weight_decay": 0.1},
    "short memory": {"lr": 5e-3, "betas": (0.7, 0.9), "eps": 1e-6, "weight_decay": 0.3},
    "no decay": {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-4, "weight_decay": 0.0},
    "no memory": {"lr": 1e-3, "betas": (0.0, 0.0), "weight_decay": 0.01},
}


class Pair:
    """Ours and the document's model, with the same weights, and a batch for them."""

    def __init__(self, shape: str, dtype: Any = np.float64, gain: float = 1.0) -> None:
        V, context, C, H, L, qkv_bias, B, T = SHAPES[shape]
        self.cfg = {
            "vocab_size": V,
            "context_length": context,
            "emb_dim": C,
            "n_heads": H,
            "n_layers": L,
            "drop_rate": 0.0,
            "qkv_bias": qkv_bias,
        }
        torch.manual_seed(5)
        self.theirs = book.GPTModel(self.cfg).to(torch.float64 if dtype == np.float64 else torch.float32)
        with torch.no_grad():
            for p in self.theirs.parameters():  # away from 0 and 1: a shift or a scale that is lost must show
                p.add_(torch.randn_like(p), alpha=0.2).mul_(gain)
        self.ours = GPTModel(self.cfg).to(dtype=dtype)
        self.ours.load_state_dict({name: t.numpy() for name, t in self.theirs.state_dict().items()})
        rng = np.random.default_rng(6)
        self.ids, self.targets = rng.integers(0, V, (2, B, T))
        self.batches = rng.integers(0, V, (3, 2, B, T))

    def their_gradients(self) -> Arrays:
        return {name: p.grad.numpy() for name, p in self.theirs.named_parameters()}

    def our_gradients(self) -> Arrays:
        return {name: p.grad for name, p in self.ours.named_parameters() if p.grad is not None}

    def their_weights(self) -> Arrays:
        return {name: p.detach().numpy() for name, p in self.theirs.named_parameters()}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=PRECISIONS, ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- the model


def test_logits_loss_and_all_gradients_are_equal(shape: str, dtype: Any) -> None:
    pair, tolerance = Pair(shape, dtype), PRECISIONS[dtype]
    ids, targets = torch.from_numpy(pair.ids), torch.from_numpy(pair.targets)
    logits, their_loss = pair.theirs(ids), book.calc_loss_batch(ids, targets, pair.theirs)
    their_loss.backward()
    assert_close(pair.ours(pair.ids).data, logits.detach().numpy(), tolerance, "logits")
    loss = pair.ours.loss(pair.ids, pair.targets)
    loss.backward()
    assert_close(loss.data, their_loss.item(), tolerance, "loss")
    assert_all_close(pair.our_gradients(), pair.their_gradients(), tolerance)


def test_gradients_through_the_logits_are_equal(shape: str) -> None:
    pair = Pair(shape)
    upstream = np.random.default_rng(7).standard_normal((*pair.ids.shape, pair.cfg["vocab_size"]))
    pair.theirs(torch.from_numpy(pair.ids)).backward(torch.from_numpy(upstream))
    pair.ours(pair.ids).backward(upstream)
    assert_all_close(pair.our_gradients(), pair.their_gradients(), PRECISIONS[np.float64])


def test_gradients_of_two_batches_add_up(shape: str) -> None:
    pair = Pair(shape)
    for ids, targets in pair.batches[:2]:
        book.calc_loss_batch(torch.from_numpy(ids), torch.from_numpy(targets), pair.theirs).backward()
        pair.ours.loss(ids, targets).backward()
    assert_all_close(pair.our_gradients(), pair.their_gradients(), PRECISIONS[np.float64])


def test_with_the_same_dropout_masks_loss_and_all_gradients_are_equal(shape: str) -> None:
    rate, masks = 0.3, []

    class Recording(Generator):
        def keep_mask(self, shape: tuple[int, ...], rate: float) -> npt.NDArray[np.bool_]:
            masks.append(super().keep_mask(shape, rate))
            return masks[-1]

    class Given(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * torch.from_numpy(masks.pop(0)) / (1 - rate)

    pair = Pair(shape)
    ours = GPTModel(pair.cfg | {"drop_rate": rate}, rng=Recording(3)).to(dtype=np.float64)
    ours.load_state_dict(pair.ours.state_dict())
    loss = ours.loss(pair.ids, pair.targets)
    loss.backward()
    pair.theirs.drop_emb = Given()
    for block in pair.theirs.trf_blocks:
        block.att.dropout = block.drop_shortcut = Given()
    assert len(masks) == 1 + 3 * len(pair.theirs.trf_blocks)
    their_loss = book.calc_loss_batch(torch.from_numpy(pair.ids), torch.from_numpy(pair.targets), pair.theirs)
    their_loss.backward()
    assert masks == []
    assert_close(loss.data, their_loss.item(), PRECISIONS[np.float64], "loss")
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    assert_all_close(gradients, pair.their_gradients(), PRECISIONS[np.float64])


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


# --- weights by name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_our_state_loads_into_the_documents_model_strictly_and_gives_the_same_logits(shape: str, dtype: Any) -> None:
    pair = Pair(shape, dtype)
    torch.manual_seed(99)
    fresh = book.GPTModel(pair.cfg).to(torch.float64 if dtype == np.float64 else torch.float32)
    state = {name: torch.from_numpy(a) for name, a in pair.ours.book_state_dict().items()}
    fresh.load_state_dict(state, strict=True)
    for name, t in pair.theirs.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], t), name
    logits = fresh(torch.from_numpy(pair.ids)).detach().numpy()
    assert_close(pair.ours(pair.ids).data, logits, PRECISIONS[dtype], "logits")


def test_our_state_has_pytorchs_names_shapes_and_order(shape: str) -> None:
    pair = Pair(shape)
    ours, theirs = pair.ours.book_state_dict(), pair.theirs.state_dict()
    assert [(name, a.shape) for name, a in ours.items()] == [(name, tuple(t.shape)) for name, t in theirs.items()]


def test_our_parameters_come_in_pytorchs_order(shape: str) -> None:
    pair = Pair(shape)
    ours = [(name, p.shape) for name, p in pair.ours.named_parameters()]
    assert ours == [(name, tuple(p.shape)) for name, p in pair.theirs.named_parameters()]


def test_pytorchs_state_loads_into_ours_to_the_last_bit(shape: str) -> None:
    pair = Pair(shape)
    torch.manual_seed(99)
    fresh = book.GPTModel(pair.cfg).double()
    state = {name: t.numpy() for name, t in fresh.state_dict().items()}
    pair.ours.load_state_dict(state)
    for name, array in pair.ours.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


# --- text


@pytest.mark.parametrize("top_k", [None, 1, 5])
def test_greedy_text_past_the_context_is_equal(shape: str, top_k: int | None) -> None:
    pair = Pair(shape, gain=2.0)
    prompt, context = pair.ids[:1, :3], pair.cfg["context_length"]
    theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt), 30, context, top_k=top_k)
    ours = generate_text(pair.ours, prompt, 30, context, top_k=top_k)
    assert ours.shape[1] > context
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_greedy_text_compared_here_has_many_different_tokens() -> None:
    pair = Pair("plain", gain=2.0)
    assert len(set(generate_text(pair.ours, pair.ids[:1, :3], 30, 8)[0].tolist())) > 5


def test_each_row_of_a_batch_is_the_documents_text_of_that_row() -> None:
    pair = Pair("qkv_bias", gain=2.0)
    ours = generate_text(pair.ours, pair.ids, 30, 8)
    for row, prompt in zip(ours, pair.ids, strict=True):
        theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt[None]), 30, 8)
        np.testing.assert_array_equal(row[None], theirs.numpy())


def test_sampling_from_the_top_1_is_equal() -> None:
    pair = Pair("plain", gain=2.0)
    theirs = book.generate_text(pair.theirs, torch.from_numpy(pair.ids[:1]), 20, 8, temperature=1.4, top_k=1)
    np.testing.assert_array_equal(generate_text(pair.ours, pair.ids[:1], 20, 8, 1.4, 1), theirs.numpy())


def test_text_ends_before_the_eos_where_the_documents_ends() -> None:
    pair = Pair("plain", gain=2.0)
    prompt = pair.ids[:1, :3]
    whole = generate_text(pair.ours, prompt, 30, 8)[0].tolist()
    lengths = []
    for eos in set(whole[3:]):
        theirs = book.generate_text(pair.theirs, torch.from_numpy(prompt), 30, 8, eos_id=eos)
        ours = generate_text(pair.ours, prompt, 30, 8, eos_id=eos)
        np.testing.assert_array_equal(ours, theirs.numpy())
        lengths.append(ours.shape[1])
    assert len(set(lengths)) > 3
    assert min(lengths) == 3


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


# --- the operations

rng = np.random.default_rng(11)
x34, x4, x31 = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal((3, 1))
x243, x234, x534 = (rng.standard_normal(s) for s in ((2, 4, 3), (2, 3, 4), (5, 3, 4)))
wide = np.array([[-40.0, -3.0, -0.5, 0.0], [1e-8, 0.5, 3.0, 40.0], [100.0, -100.0, 1e-3, -1e-3]])
positive = np.exp(x34)
tied = np.array([[2.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0], [-1.0, 0.0, -2.0, 0.0]])
tied_too = np.array([[2.0, 5.0, -2.0, 0.0], [3.0, 1.0, 3.0, 4.0], [-1.0, 0.0, 2.0, 1.0]])
ids = np.array([[3, 0, 3], [1, 3, 3]])
targets = np.array([3, 0, 0])
choice = np.array([[True, False, True, True], [False, False, True, False], [True, True, False, False]])
head, bias = rng.standard_normal((6, 4)), rng.standard_normal(6)
qkv = rng.standard_normal((2, 5, 3 * 6))

T_ids, T_targets, T_choice = (torch.from_numpy(a) for a in (ids, targets, choice))


def their_attention(qkv: Any, n_heads: int) -> Any:
    B, T, C3 = qkv.shape
    q, k, v = qkv.reshape(B, T, 3, n_heads, C3 // 3 // n_heads).permute(2, 0, 3, 1, 4)
    return TF.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C3 // 3)


Operation = tuple[Callable[..., Any], Callable[..., Any], list[npt.NDArray[Any]]]
OPERATIONS: dict[str, Operation] = {
    "gelu": (F.gelu, lambda x: TF.gelu(x, approximate="tanh"), [x234]),
    "gelu, far out": (F.gelu, lambda x: TF.gelu(x, approximate="tanh"), [wide]),
    "layer_norm": (F.layer_norm, lambda x, s, t: TF.layer_norm(x, (4,), s, t), [x234, x4, x34[0]]),
    "layer_norm, wide": (F.layer_norm, lambda x, s, t: TF.layer_norm(x, (4,), s, t), [wide, x4, x34[0]]),
    "layer_norm, other eps": (
        lambda x, s, t: F.layer_norm(x, s, t, 0.1),
        lambda x, s, t: TF.layer_norm(x, (4,), s, t, 0.1),
        [x234, x4, x34[0]],
    ),
    "softmax": (F.softmax, lambda x: TF.softmax(x, -1), [x234]),
    "softmax, wide": (F.softmax, lambda x: TF.softmax(x, -1), [wide]),
    "softmax, axis 1": (lambda x: F.softmax(x, 1), lambda x: TF.softmax(x, 1), [x234]),
    "log_softmax": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [x234]),
    "log_softmax, wide": (F.log_softmax, lambda x: TF.log_softmax(x, -1), [wide]),
    "log_softmax, axis 0": (lambda x: F.log_softmax(x, 0), lambda x: TF.log_softmax(x, 0), [x234]),
    "logsumexp": (F.logsumexp, lambda x: torch.logsumexp(x, (0, 1)), [x34]),
    "logsumexp, axis": (lambda x: F.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), [x234]),
    "logsumexp, axes": (
        lambda x: F.logsumexp(x, (0, -1), True),
        lambda x: torch.logsumexp(x, (0, -1), True),
        [x234],
    ),
    "logsumexp, wide": (lambda x: F.logsumexp(x, -1), lambda x: torch.logsumexp(x, -1), [wide]),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, targets),
        lambda x: TF.cross_entropy(x, T_targets),
        [x34],
    ),
    "cross_entropy, wide": (
        lambda x: F.cross_entropy(x, targets),
        lambda x: TF.cross_entropy(x, T_targets),
        [wide],
    ),
    "linear_cross_entropy": (
        lambda x, w: F.linear_cross_entropy(x, w, targets),
        lambda x, w: TF.cross_entropy(TF.linear(x, w), T_targets),
        [x34, head],
    ),
    "embedding": (lambda w: F.embedding(ids, w), lambda w: TF.embedding(T_ids, w), [head]),
    "linear": (F.linear, TF.linear, [x234, head, bias]),
    "linear without bias": (F.linear, TF.linear, [x234, head]),
    "linear_gelu": (F.linear_gelu, lambda x, w, b: TF.gelu(TF.linear(x, w, b), approximate="tanh"), [x234, head, bias]),
    "side_by_side": (
        lambda x, v, w, b, c: F.side_by_side(x, [v, w], [b, c]),
        lambda x, v, w, b, c: torch.cat([TF.linear(x, v, b), TF.linear(x, w, c)], -1),
        [x234, head, head[::-1].copy(), bias, -bias],
    ),
    "causal_attention": (lambda x: F.causal_attention(x, 3), lambda x: their_attention(x, 3), [qkv]),
    "causal_attention, one head": (lambda x: F.causal_attention(x, 1), lambda x: their_attention(x, 1), [qkv]),
    "matmul": (lambda x, y: x @ y, torch.matmul, [x34, x34.T.copy()]),
    "matmul, batches": (lambda x, y: x @ y, torch.matmul, [x234, x243]),
    "matmul, batch with matrix": (lambda x, y: x @ y, torch.matmul, [x243, x34]),
    "matmul, matrix with batch": (lambda x, y: x @ y, torch.matmul, [x34, x243]),
    "matmul, batches broadcast": (lambda x, y: x @ y, torch.matmul, [x534[:, None], x243]),
    "matmul, batch of 1": (lambda x, y: x @ y, torch.matmul, [x234, x243[:1]]),
    "matmul, vectors": (lambda x, y: x @ y, torch.matmul, [x4, x34[1]]),
    "matmul, matrix with vector": (lambda x, y: x @ y, torch.matmul, [x34, x4]),
    "matmul, vector with batch": (lambda x, y: x @ y, torch.matmul, [x4, x243]),
    "matmul, batch with vector": (lambda x, y: x @ y, torch.matmul, [x234, x4]),
    "where": (lambda x, y: F.where(choice, x, y), lambda x, y: torch.where(T_choice, x, y), [x34, tied]),
    "where, broadcast": (lambda x, y: F.where(choice, x, y), lambda x, y: torch.where(T_choice, x, y), [x4, x31]),
    "maximum": (F.maximum, torch.maximum, [x34, x34[::-1].copy()]),
    "maximum, ties": (F.maximum, torch.maximum, [tied, tied_too]),
    "maximum, broadcast": (F.maximum, torch.maximum, [x4, x31]),
    "minimum, ties": (F.minimum, torch.minimum, [tied, tied_too]),
    "max, ties": (lambda x: x.max(axis=-1), lambda x: torch.amax(x, -1), [tied]),
    "max, ties, axis 0": (lambda x: x.max(axis=0, keepdims=True), lambda x: torch.amax(x, 0, True), [tied]),
    "max, ties, all": (lambda x: x.max(), torch.amax, [tied]),
    "max, axes": (lambda x: x.max(axis=(0, 2)), lambda x: torch.amax(x, (0, 2)), [x234]),
    "pow": (lambda x, y: x**y, torch.pow, [positive, x34]),
    "pow, broadcast": (lambda x, y: x**y, torch.pow, [positive, x31]),
    "pow, number below": (lambda y: 1.7**y, lambda y: torch.pow(1.7, y), [x34]),
    "pow, 0 below": (lambda x, y: x**y, torch.pow, [np.array([0.0, 0.0, 2.0]), np.array([2.0, 1.0, 0.0])]),
    **{
        f"pow {n}": (lambda x, n=n: x**n, lambda x, n=n: torch.pow(x, n), [x34 if n == int(n) else positive])
        for n in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 2.7)
    },
    "pow 2 of 0": (lambda x: x**2, lambda x: torch.pow(x, 2), [tied]),
    "pow 0 of 0": (lambda x: x**0, lambda x: torch.pow(x, 0), [tied]),
    "divide": (lambda x, y: x / y, torch.div, [x34, x31]),
    "exp": (lambda x: x.exp(), torch.exp, [x34]),
    "log": (lambda x: x.log(), torch.log, [positive]),
    "sqrt": (lambda x: x.sqrt(), torch.sqrt, [positive]),
    "tanh": (lambda x: x.tanh(), torch.tanh, [wide]),
    "mean": (lambda x: x.mean(axis=(0, 2)), lambda x: x.mean((0, 2)), [x234]),
    "sum": (lambda x: x.sum(axis=1, keepdims=True), lambda x: x.sum(1, True), [x234]),
    "transpose": (lambda x: x.transpose(2, 0, 1), lambda x: x.permute(2, 0, 1), [x234]),
    "index with repeats": (lambda x: x[ids], lambda x: x[T_ids], [x534]),
    "concatenate": (lambda x, y: F.concatenate([x, y], 1), lambda x, y: torch.cat([x, y], 1), [x34, x31]),
    "stack": (lambda x, y: F.stack([x, y], 1), lambda x, y: torch.stack([x, y], 1), [x34, tied]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_has_pytorchs_value_and_gradients(name: str) -> None:
    ours, theirs, arrays = OPERATIONS[name]
    inputs = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    their_inputs = [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]
    y, their_y = ours(*inputs), theirs(*their_inputs)
    assert_close(y.data, their_y.detach().numpy(), OPERATION, "value")
    upstream = np.asarray(np.random.default_rng(12).standard_normal(y.shape))
    y.backward(upstream)
    their_y.backward(torch.from_numpy(upstream))
    largest = max(float(q.grad.norm()) for q in their_inputs)
    for i, (p, q) in enumerate(zip(inputs, their_inputs, strict=True)):
        error = relative_error(p.grad, q.grad.numpy(), scale=largest)
        assert error <= OPERATION, f"gradient of input {i}: relative error {error:.1e}"


# --- the stored goldens


@pytest.mark.parametrize("name", make_goldens.CASES)
def test_the_stored_goldens_are_what_their_script_makes(name: str) -> None:
    made = make_goldens.golden(**make_goldens.CASES[name])
    with np.load(Path(make_goldens.__file__).parent / f"{name}.npz", allow_pickle=False) as file:
        stored = dict(file)
    assert list(stored) == list(made)
    for part in ("config", "adamw", "ids", "targets", "continuation"):
        np.testing.assert_array_equal(stored.pop(part), made.pop(part))
    del stored["torch"], made["torch"]  # another version may compute them
    assert_all_close(stored, made, 1e-12)


def test_the_goldens_script_makes_the_same_twice_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first = make_goldens.golden(**make_goldens.CASES["one_head"])
    torch.manual_seed(2)
    second = make_goldens.golden(**make_goldens.CASES["one_head"])
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
