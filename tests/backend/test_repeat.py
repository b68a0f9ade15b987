"""A step's kernel calls, repeated on a second backend: every error that is planted in a kernel is found and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.backend import cpu
from nanograd_gpt.backend.contract import KERNELS, GradOut
from nanograd_gpt.backend.plain import kernels as plain
from nanograd_gpt.backend.repeat import Call, backend_named, first_difference, repeated
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator

CONFIG = {
    "vocab_size": 23,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": True,
}
IDS = np.random.default_rng(5).integers(0, 23, (2, 3, 9))
WRITING = ["linear_backward", "packed_linear_backward", "layer_norm_backward", "linear_gelu_backward"]
WRITING += ["linear_cross_entropy_backward", "embedding_backward"]
USED = [*WRITING, "embedding", "keep_mask", "dropout", "layer_norm", "packed_linear", "causal_attention", "linear"]
USED += ["dropout_add", "linear_gelu", "linear_cross_entropy", "causal_attention_backward", "clip_scale", "adamw"]


class Trainer:
    """A model, and a step of two accumulated batches."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.model = GPTModel(CONFIG, rng=Generator(7)).to(dtype=dtype).train()
        self.optimizer = AdamW(self.model.parameters(), lr=1e-2)

    def names(self) -> dict[int, str]:
        nodes: Any = {name: p.node for name, p in self.model.named_parameters()}
        weights = {id(p.data): name for name, p in self.model.named_parameters()}
        return weights | {id(node.buffer): name for name, node in nodes.items()}

    def step(self) -> None:
        for ids in IDS:
            self.model.loss(ids[:, :-1], ids[:, 1:]).backward()
        self.optimizer.step(0.5)


def step(first: str = "cpu", second: str = "plain", dtype: Any = np.float32, by_rows: bool = True) -> list[Call]:
    trainer = Trainer(dtype)
    if not by_rows:  # overwrite an embedding's gradient instead of adding rows to zeros
        assert not trainer.optimizer.flat.grad.any()
    with repeated(backend_named(first), backend_named(second), trainer.names()) as calls:
        trainer.step()
    return calls


def found(calls: Sequence[Call]) -> Call:
    call = first_difference(calls)
    assert call is not None
    return call


def grad_outs(args: Sequence[Any]) -> list[GradOut]:
    flat = [part for arg in args for part in (arg if isinstance(arg, list) else [arg])]
    return [part for part in flat if isinstance(part, GradOut)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("first", "second"), [("cpu", "plain"), ("plain", "cpu")])
def test_backends_agree_in_every_call_of_a_step(first: str, second: str, dtype: Any) -> None:
    calls = step(first, second, dtype)
    assert first_difference(calls) is None
    assert {call.kernel for call in calls} == {*USED}
    assert any(call.difference.error > 0 for call in calls), "they do not compute in the same way"


@pytest.mark.parametrize("name", USED)
def test_an_error_in_a_result_is_found_and_its_kernel_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(plain, name)

    def wrong(*args: Any) -> Any:
        result = right(*args)
        if name == "keep_mask":
            result.reshape(-1)[0] ^= True
        elif result is None:
            array = args[2].array if name == "embedding_backward" else args[0]
            array *= 1.001
        elif isinstance(result, tuple):
            return 1.001 * result[0], *result[1:]
        else:
            return 1.001 * result
        return result

    monkeypatch.setattr(plain, name, wrong)
    calls = step()
    wrong_call = found(calls)
    assert wrong_call.kernel == name
    if name != "keep_mask":  # the kernels that use a mask use the second backend's own
        assert {call.kernel for call in calls if not call.difference.is_allowed} == {name}
        assert 2e-4 < wrong_call.difference.error < 2e-3


@pytest.mark.parametrize("name", WRITING)
def test_an_error_in_a_gradient_that_is_written_is_found_and_its_argument_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(plain, name)

    def wrong(*args: Any) -> Any:
        result = right(*args)
        last = grad_outs(args)[-1].array
        last *= 1.001
        return result

    monkeypatch.setattr(plain, name, wrong)
    call = found(step())
    argument = {"packed_linear_backward": "dbiases", "layer_norm_backward": "dshift"}
    weight = "dweight" if name in ("embedding_backward", "linear_cross_entropy_backward") else "dbias"
    assert (call.kernel, call.difference.output) == (name, argument.get(name, weight))


@pytest.mark.parametrize(("name", "argument"), [("adamw", i) for i in (0, 2, 3)])
def test_an_error_in_the_optimizers_update_is_found(name: str, argument: int, monkeypatch: pytest.MonkeyPatch) -> None:
    right = plain.adamw

    def wrong(*args: Any) -> None:
        right(*args)
        args[argument][5] *= 1.1

    monkeypatch.setattr(plain, name, wrong)
    call = found(step())
    assert (call.kernel, call.where) == ("adamw", "all parameters")
    assert call.difference.output == {0: "param", 2: "exp_avg", 3: "exp_avg_sq"}[argument]


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("accumulate", [True, False])
def test_a_gradient_that_is_not_written_as_it_should_be_is_found(
    accumulate: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overwritten in place of added to; or left as it was, which may be the right one of an earlier step."""
    right = getattr(plain, name)

    def wrong(*args: Any) -> Any:
        before = [out.array.copy() for out in grad_outs(args)]
        result = right(*args)
        for out, array in zip(grad_outs(args), before, strict=True):
            if out.accumulate == accumulate:
                out.array[...] = out.array - array if accumulate else array
        return result

    monkeypatch.setattr(plain, name, wrong)
    assert found(step(by_rows=False)).kernel == name


def test_the_first_of_several_is_named_with_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("causal_attention_backward", "layer_norm", "adamw", "linear_gelu"):
        monkeypatch.setattr(plain, name, scaled(getattr(plain, name)))
    call = found(step())
    assert (call.kernel, call.where) == ("layer_norm", "trf_blocks.0.norm1")
    assert call.difference.shape == (3, 8, 12)


def scaled(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(*args: Any) -> Any:
        result = right(*args)
        return (1.1 * result[0], *result[1:]) if isinstance(result, tuple) else result

    return wrong


def test_an_input_that_the_second_backend_writes_to_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = plain.linear

    def wrong(x: Any, weight: Any, bias: Any) -> Any:
        y = right(x, weight, bias)
        x += 1
        return y

    monkeypatch.setattr(plain, "linear", wrong)
    call = found(step())
    assert (call.kernel, call.difference.output) == ("linear", "x")


def test_a_result_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "linear_backward", lambda *args: None)
    assert found(step()).difference.error == np.inf


def test_calls_are_placed_by_the_parameters_that_they_are_given() -> None:
    places = [(call.kernel, call.where) for call in step()]
    assert places[0] == ("embedding", "tok_emb")
    for kernel, where in (
        ("packed_linear", "trf_blocks.1.att"),
        ("causal_attention", "after trf_blocks.1.att"),
        ("linear_gelu_backward", "trf_blocks.0.ff.layers.0"),
        ("causal_attention_backward", "after trf_blocks.0.att.out_proj"),
        ("layer_norm_backward", "final_norm"),
        ("linear_cross_entropy", "out_head"),
    ):
        assert (kernel, where) in places
    assert places[-2:] == [("clip_scale", "all parameters"), ("adamw", "all parameters")]


def test_the_step_itself_is_that_of_the_first_backend_bit_for_bit() -> None:
    watched, alone = Trainer(), Trainer()
    with repeated(backend_named("cpu"), backend_named("plain"), {}) as calls:
        watched.step()
    alone.step()
    for a, b in zip(watched.model.parameters(), alone.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert calls[0].where == "after the beginning"


def test_the_kernels_come_back_also_after_an_error() -> None:
    before = {name: getattr(cpu, name) for name in KERNELS}

    def fail_within() -> None:
        with repeated(backend_named("cpu"), backend_named("plain"), {}):
            assert all(getattr(cpu, name) is not kernel for name, kernel in before.items())
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert {name: getattr(cpu, name) for name in KERNELS} == before
