"""The arrays of named places are what the model held there, and their gradients are the slopes of the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tape.small import IDS, B, C, H, L, T, V, model_of, normed, plain_weights

import nanograd_gpt as ng
from nanograd_gpt.errors import InputError
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tape.places import KINDS
from nanograd_gpt.tape.tape import Tape
from nanograd_gpt.tensor import Tensor

TARGETS = np.roll(IDS, -1, axis=1)
PER_BLOCK = {"att.weights": (B, H, T, T), "ff.activations": (B, T, 4 * C), "residual": (B, T, C)}
SHAPES = {
    "tok_emb.vectors": (B, T, C),
    "drop_emb.residual": (B, T, C),
    **{f"trf_blocks.{i}.{name}": shape for i in range(L) for name, shape in PER_BLOCK.items()},
    "out_head.logits": (B, T, V),
}


def taped(drop_rate: float = 0.0, by_logits: bool = False) -> tuple[Any, Tape]:
    """A model in float64, and the tape of its loss and backward."""
    model = model_of(drop_rate).to(dtype=np.float64)
    with ng.record(values=True) as tape:
        if by_logits:
            F.cross_entropy(model(IDS).reshape(-1, V), TARGETS.reshape(-1)).backward()
        else:
            model.loss(IDS, TARGETS).backward()
    return model, tape


@pytest.mark.parametrize("drop_rate", [0.0, 0.5])
@pytest.mark.parametrize("by_logits", [False, True], ids=["loss", "logits"])
def test_every_place_has_an_array_and_a_gradient_of_its_shape(drop_rate: float, by_logits: bool) -> None:
    _, tape = taped(drop_rate, by_logits)
    assert {name: tape[name].value.shape for name in tape.places} == SHAPES
    assert {name: tape[name].grad.shape for name in tape.places} == SHAPES  # type: ignore[union-attr]  # not None


def test_the_values_are_those_of_the_plain_formulas() -> None:
    model, tape = taped()
    x = model.tok_emb.weight.data[IDS] + model.pos_emb.weight.data[:T]
    np.testing.assert_allclose(tape["drop_emb.residual"].value, x, rtol=1e-13)
    for i, block in enumerate(model.trf_blocks):
        weights = plain_weights(normed(x, block.norm1), block.att)
        np.testing.assert_allclose(tape[f"trf_blocks.{i}.att.weights"].value, weights, rtol=1e-12)
        x = tape[f"trf_blocks.{i}.residual"].value
        with ng.no_grad():
            before = tape["drop_emb.residual" if i == 0 else f"trf_blocks.{i - 1}.residual"].value
            np.testing.assert_array_equal(block(Tensor(before)).data, x)
    logits = normed(x, model.final_norm) @ model.out_head.weight.data.T
    np.testing.assert_allclose(tape["out_head.logits"].value, logits, rtol=1e-12)


def head(model: Any, x: Tensor, i: int) -> Tensor:
    """The logits from the residual stream after block i - 1."""
    for block in [*model.trf_blocks][i:]:
        x = block(x)
    return model.out_head(model.final_norm(x))


def from_weights(model: Any, tape: Tape, i: int, weights: Tensor) -> Tensor:
    """The logits from the attention weights of block i, with everything before them as a constant."""
    block, x = model.trf_blocks[i], tape["drop_emb.residual" if i == 0 else f"trf_blocks.{i - 1}.residual"].value
    v = (normed(x, block.norm1) @ block.att.W_value.weight.data.T).reshape(B, T, H, C // H).swapaxes(1, 2)
    y = block.att.out_proj((weights @ v).swapaxes(1, 2).reshape(B, T, C)) + x
    return head(model, y + block.ff(block.norm2(y)), i + 1)


def from_activations(model: Any, tape: Tape, i: int, h: Tensor) -> Tensor:
    """The logits from the MLP's activations in block i, with everything before them as a constant."""
    narrow = model.trf_blocks[i].ff.layers[2]
    before = tape[f"trf_blocks.{i}.residual"].value - narrow(Tensor(h.data)).data
    return head(model, narrow(h) + before, i + 1)


def logits_from(model: Any, tape: Tape, name: str, x: Tensor) -> Tensor:
    if name == "out_head.logits":
        return x
    if not name.startswith("trf"):
        return head(model, x if name.startswith("drop") else x + model.pos_emb.weight.data[:T], 0)
    i, part = int(name.split(".")[1]), name.split(".", 2)[2]
    if part == "residual":
        return head(model, x, i + 1)
    return (from_weights if part == "att.weights" else from_activations)(model, tape, i, x)


@pytest.mark.parametrize("name", SHAPES)
def test_a_gradient_is_that_of_a_leaf_in_its_place(name: str) -> None:
    model, tape = taped()
    x = Tensor(tape[name].value.copy(), requires_grad=True)
    F.cross_entropy(logits_from(model, tape, name, x).reshape(-1, V), TARGETS.reshape(-1)).backward()
    expected = np.tril(x.grad) if name.endswith("weights") else x.grad  # later keys have no weight
    np.testing.assert_allclose(tape[name].grad, expected, rtol=1e-9, atol=1e-14)


def test_the_gradients_are_the_same_through_fused_logits_and_through_logits_of_their_own() -> None:
    fused, apart = taped()[1], taped(by_logits=True)[1]
    for name in SHAPES:
        np.testing.assert_allclose(fused[name].value, apart[name].value, rtol=1e-12)
        np.testing.assert_allclose(fused[name].grad, apart[name].grad, rtol=1e-9, atol=1e-14)


def test_the_gradient_of_weights_that_dropout_changes_gives_the_gradient_of_the_queries() -> None:
    numbers = np.random.default_rng(1)
    qkv = Tensor(numbers.standard_normal((B, T, 3 * C)), requires_grad=True)
    keep = numbers.random((B, H, T, T)) < 0.5
    with ng.record(values=["attention"]) as tape:
        (F.causal_attention(qkv, H, keep, 0.5) * numbers.standard_normal((B, T, C))).sum().backward()
    weights, dweights = tape["weights"].value, tape["weights"].grad
    dscores = weights * (dweights - (weights * dweights).sum(-1, keepdims=True)) / np.sqrt(C // H)
    k = qkv.data[..., C : 2 * C].reshape(B, T, H, C // H).swapaxes(1, 2)
    dq = (dscores @ k).swapaxes(1, 2).reshape(B, T, C)
    np.testing.assert_allclose(dq, qkv.grad[..., :C], rtol=1e-9, atol=1e-13)  # type: ignore[index]  # not None


class InPlace(ng.Function):
    """2 x, whose backward writes to the gradient it is given."""

    def forward(self, x: Any) -> Any:
        return 2 * x

    def backward(self, dy: Any) -> Any:
        dy *= 2
        return (dy,)


def test_a_gradient_stays_as_it_was_where_an_operation_writes_to_it_later() -> None:
    class Doubling(ng.TransformerBlock):
        def forward(self, x: Tensor, cache: Any = None) -> Tensor:
            return ng.apply(InPlace, super().forward(x, cache))

    model = model_of()
    for block in model.trf_blocks:
        block.__class__ = Doubling
    with ng.record(values=["residual"]) as tape:
        model.loss(IDS, TARGETS).backward()
    place = tape["trf_blocks.1.residual"]
    x = Tensor(place.value, requires_grad=True)
    F.cross_entropy(model.out_head(model.final_norm(x)).reshape(-1, V), TARGETS.reshape(-1)).backward()
    np.testing.assert_allclose(place.grad, x.grad, rtol=1e-4, atol=1e-8)


def test_only_the_kinds_that_are_asked_for_are_kept() -> None:
    kinds = {"embedding": 1, "residual": 1 + L, "attention": L, "mlp": L, "logits": 1}
    assert set(kinds) == set(KINDS)
    for kind, n in kinds.items():
        for values in (kind, [kind]):
            with ng.record(values=values) as tape:
                model_of().loss(IDS, TARGETS)
            assert len(tape.places) == n
    with ng.record() as tape:
        model_of().loss(IDS, TARGETS).backward()
    assert not tape.places


def test_under_no_grad_there_are_values_without_gradients_and_each_forward_has_its_own() -> None:
    model = model_of().eval()
    with ng.record(values=True) as tape, ng.no_grad():
        first, second = model(IDS), model(IDS[:1, :4])
    assert [place.value.shape for place in tape.places["trf_blocks.0.att.weights"]] == [(B, H, T, T), (1, H, 4, 4)]
    np.testing.assert_array_equal(tape.places["out_head.logits"][0].value, first.data)
    np.testing.assert_array_equal(tape["out_head.logits"].value, second.data)
    assert all(place.grad is None for places in tape.places.values() for place in places)


def test_two_forwards_before_their_backwards_keep_their_gradients_apart() -> None:
    model = model_of()
    with ng.record(values=["residual"]) as tape:
        losses = [model.loss(IDS, TARGETS), model.loss(IDS[:1], TARGETS[:1])]
        losses[0].backward()
        assert [place.grad is None for place in tape.places["trf_blocks.0.residual"]] == [False, True]
        losses[1].backward()
    assert [place.grad.shape for place in tape.places["trf_blocks.0.residual"]] == [(B, T, C), (1, T, C)]  # type: ignore[union-attr]  # not None


def test_a_model_inside_another_module_has_its_places_by_their_whole_path() -> None:
    class Wrapped(ng.Module):
        def __init__(self) -> None:
            self.gpt = model_of()

        def forward(self, ids: Any) -> Tensor:
            return self.gpt(ids)

    with ng.record(values=True) as tape:
        Wrapped()(IDS)
    assert set(tape.places) == {f"gpt.{name}" for name in SHAPES}


def test_a_name_that_is_not_there_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"'trf_blocks.0.residul' is not one of its 9 places; did you mean 'trf_bl"):
        taped()[1]["trf_blocks.0.residul"]
    with ng.record() as tape:
        model_of().loss(IDS, TARGETS)
    with pytest.raises(InputError, match=r"'logits' is not one of its 0 places; record\(values=True\) keeps them"):
        tape["logits"]
    with (
        pytest.raises(InputError, match="values has 'mlps', which is not a kind of place; did you mean 'mlp'"),
        ng.record(["mlps"]),
    ):
        pass
