"""record() notes every operation with its module, shapes, times, kept memory and line, and changes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest
from tape.small import IDS, B, C, H, T, model_of

import nanograd_gpt as ng
from nanograd_gpt import autograd, tensor
from nanograd_gpt.gpt.kv_cache import LayerCache
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tape.operation import Operation
from nanograd_gpt.tape.tape import Tape
from nanograd_gpt.viz.graph import draw_graph

BLOCK = [
    ("LayerNorm", ".norm1"),
    ("PackedLinear", ".att"),
    ("CausalAttention", ".att"),
    ("Linear", ".att.out_proj"),
    ("Add", ""),
    ("LayerNorm", ".norm2"),
    ("LinearGELU", ".ff.layers.0"),
    ("Linear", ".ff.layers.2"),
    ("Add", ""),
]


def names(tape: Tape) -> list[tuple[str, str]]:
    return [(o.name, o.path) for o in tape.operations]


def only(tape: Tape, name: str, path: str) -> Operation:
    (found,) = (o for o in tape.operations if (o.name, o.path) == (name, path))
    return found


def test_every_operation_of_a_step_is_listed_with_its_module() -> None:
    model = model_of()
    with ng.record() as tape:
        model.loss(IDS, IDS).backward()
    blocks = [(name, f"trf_blocks.{i}{part}") for i in (0, 1) for name, part in BLOCK]
    start, end = [("Embedding", "tok_emb"), ("Embedding", "pos_emb"), ("Add", "")], [("LayerNorm", "final_norm")]
    assert names(tape) == [*start, *blocks, *end, ("Reshape", ""), ("LinearCrossEntropy", "out_head")]


def test_the_fused_operations_of_training_are_listed_and_so_are_masks_and_the_optimizer() -> None:
    model = model_of(drop_rate=0.5)
    optimizer = ng.AdamW(model.parameters())
    with ng.record() as tape:
        model.loss(IDS, IDS).backward()
        optimizer.step()
    assert names(tape).count(("DropoutAdd", "trf_blocks.1")) == 2
    assert [o.shape for o in tape.operations if o.name == "DropoutMask"][:2] == [(B, T, C), (B, H, T, T)]
    assert names(tape)[-1] == ("AdamW.step", "")
    differentiated = [o for o in tape.operations if o.name not in ("DropoutMask", "AdamW.step")]
    assert all(o.forward_ms > 0 and o.backward_ms > 0 for o in differentiated)


def test_an_operation_has_its_shapes_dtype_and_the_models_line() -> None:
    with ng.record() as tape:
        model_of().loss(IDS, IDS)
    attention = only(tape, "CausalAttention", "trf_blocks.0.att")
    assert (attention.inputs, attention.shape, attention.dtype) == (((B, T, 3 * C),), (B, T, C), "float32")
    lines, first = inspect.getsourcelines(ng.MultiHeadAttention.forward)
    called = {o.name: o.source for o in tape.operations if o.path.startswith("trf_blocks.0.att")}
    for name, text in {"CausalAttention": "F.causal_attention", "Linear": "self.out_proj"}.items():
        (at,) = (first + i for i, line in enumerate(lines) if text in line)
        assert called[name] == f"gpt/model.py:{at}"


def test_in_code_of_ones_own_the_line_is_that_of_the_call() -> None:
    layer = ng.Sequential(ng.Linear(3, 4), ng.GELU())
    with ng.record() as tape:
        layer(ng.Tensor(np.ones((2, 3), np.float32)))
        F.gelu(ng.Tensor([1.0]))
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]  # CPython has frames
    assert names(tape) == [("Linear", "0"), ("GELU", "1"), ("GELU", "")]
    assert [o.source for o in tape.operations] == [f"{__file__}:{line - i}" for i in (2, 2, 1)]


def test_the_bytes_kept_are_those_of_new_memory_without_parameters() -> None:
    with ng.record() as tape:
        loss = model_of().loss(IDS, IDS)
    block = {(o.name, o.path.removeprefix("trf_blocks.1")): o.kept for o in tape.operations if "blocks.1" in o.path}
    row = 4 * B * T
    assert block["LayerNorm", ".norm1"] == row * C + 2 * row  # its input, mean and reciprocal deviation
    assert block["PackedLinear", ".att"] == row * C
    assert block["CausalAttention", ".att"] == row * (3 * C + C + H)  # q, k and v, the context, and a sum per head
    assert block["Linear", ".att.out_proj"] == 0  # the context, which attention keeps already
    assert block["Add", ""] == 0
    assert tape.kept == sum(o.kept for o in tape.operations)
    del loss


def test_memory_that_was_freed_counts_again_in_a_second_step() -> None:
    model = model_of()
    kept = []
    for _ in range(3):
        with ng.record() as tape:
            model.loss(IDS, IDS).backward()
        kept.append(tape.kept)
    with ng.record() as tape:
        for _ in range(3):
            model.loss(IDS, IDS).backward()
    ids = only_first(tape).kept
    assert len(set(kept)) == 1
    assert abs(tape.kept - sum(kept)) <= 2 * ids  # the ids are the user's, and stay the same array


def only_first(tape: Tape) -> Operation:
    return next(o for o in tape.operations if o.name == "Embedding")


def test_several_forwards_and_no_grad_are_listed_without_a_backward() -> None:
    model = model_of().eval()
    with ng.record() as tape, ng.no_grad():
        model(IDS)
        model(IDS)
    assert len(tape.operations) == 2 * (3 + 2 * len(BLOCK) + 2)
    assert all(o.forward_ms > 0 and o.backward is None and o.kept == 0 for o in tape.operations)
    assert names(tape)[-1] == ("Linear", "out_head")


def test_generation_with_a_cache_is_listed() -> None:
    model = model_of().eval()
    with ng.record() as tape:
        ng.generate_text_simple(model, IDS[:1, :2], 2, 6)
    assert names(tape).count(("CachedAttention", "trf_blocks.1.att")) == 2


def test_a_backward_of_what_was_computed_before_is_listed_as_such() -> None:
    x = ng.Tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    with ng.record() as tape:
        y.backward()
    assert [(o.name, o.source, o.forward) for o in tape.operations] == [
        ("Sum", "before the tape began", None),
        ("Mul", "before the tape began", None),
    ]


def test_calls_of_another_thread_are_not_listed() -> None:
    model = model_of()
    with ThreadPoolExecutor(1) as pool, ng.record() as tape:
        pool.submit(lambda: model.loss(IDS, IDS).backward()).result()
    assert tape.operations == []


def test_a_tape_within_another_and_a_drawn_graph_see_the_same_operations() -> None:
    model = model_of()
    with ng.record() as outer:
        with ng.record() as inner:
            loss = model.loss(IDS, IDS)
        loss.backward()
        n = len(outer.operations)
        draw_graph(lambda: model.loss(IDS, IDS), model)
    assert names(inner) == names(outer)[:n]
    assert len(outer.operations) > n
    assert all(o.backward is None for o in inner.operations)
    assert all(o.backward is not None for o in outer.operations[:n])


# --- nothing changes


def doorways() -> list[object]:
    owners = [(tensor, "record"), (autograd, "input_grads"), (autograd, "deliver"), (ng.Module, "__call__")]
    owners += [(GPTModel, "loss"), (GPTModel, "hidden_states"), (GPTModel, "next_token_logits")]
    owners += [(ng.Dropout, "keep_mask"), (LayerCache, "attention"), (ng.AdamW, "step")]
    return [vars(owner)[name] for owner, name in owners]


@pytest.mark.parametrize("fails", [False, True])
def test_outside_the_block_the_functions_are_those_of_before(fails: bool) -> None:
    before = doorways()
    if fails:
        with pytest.raises(ZeroDivisionError), ng.record():
            raise ZeroDivisionError
    else:
        with ng.record():
            with ng.record():
                assert not any(a is b for a, b in zip(before, doorways(), strict=True))
            assert not any(a is b for a, b in zip(before, doorways(), strict=True))
    assert all(a is b for a, b in zip(before, doorways(), strict=True))


def test_a_step_on_tape_has_the_same_bits() -> None:
    def gradients(values: bool | None) -> list[Any]:
        model = model_of(drop_rate=0.3)
        if values is None:
            loss = model.loss(IDS, IDS)
            loss.backward()
        else:
            with ng.record(values=values):
                loss = model.loss(IDS, IDS)
                loss.backward()
        return [loss.data, *(p.grad for p in model.parameters()), model.rng.uniform((4,))]

    for values in (False, True):
        for a, b in zip(gradients(None), gradients(values), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_error_in_the_block_comes_out_with_its_notes() -> None:
    with pytest.raises(ValueError, match="x has shape") as error, ng.record() as tape:
        F.linear(np.ones((2, 3)), np.ones((4, 5)))
    assert any("in Linear(" in note for note in error.value.__notes__)
    assert tape.operations == []


# --- times


def ordinary_step() -> Callable[[], None]:
    """Forward and backward of a model of ordinary size, where Python between operations is little."""
    config = {"vocab_size": 512, "context_length": 64, "emb_dim": 320, "n_heads": 4, "n_layers": 2, "drop_rate": 0.1}
    model = GPTModel(config, rng=ng.Generator(1))
    ids = np.random.default_rng(0).integers(0, 512, (8, 64))

    def step() -> None:
        model.loss(ids, ids).backward()
        for p in model.parameters():
            p.zero_grad()

    return step


@pytest.fixture
def cpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes take the wall clock's time, not this one's; tests have one thread."""
    monkeypatch.setattr("nanograd_gpt.tape.recorder.perf_counter", process_time)


@pytest.mark.usefixtures("cpu_clock")
def test_the_times_and_what_is_outside_operations_make_the_whole() -> None:
    step, share = ordinary_step(), 0.0
    for i in range(60):
        began = process_time()
        with ng.record() as tape:
            step()
        assert 0 < tape.ms < 1e3 * (process_time() - began)
        assert tape.forward_ms + tape.backward_ms + tape.outside_ms == pytest.approx(tape.ms)
        assert tape.outside_ms > 0
        share = max(share, (tape.forward_ms + tape.backward_ms) / tape.ms)
        if i >= 5 and share > 0.95:
            break
    assert share > 0.95


@pytest.mark.usefixtures("cpu_clock")
def test_the_times_sum_to_those_of_the_step_without_a_tape() -> None:
    """The fastest rounds are compared, for both."""
    step = ordinary_step()
    plain = taped = inf
    for i in range(120):
        began = process_time()
        step()
        plain = min(plain, 1e3 * (process_time() - began))
        with ng.record() as tape:
            step()
        taped = min(taped, tape.forward_ms + tape.backward_ms)
        if i >= 10 and 0.95 < taped / plain < 1.05:
            break
    assert 0.95 < taped / plain < 1.05


def test_the_tapes_own_time_is_not_in_its_times() -> None:
    """On a tiny model, where noting an operation takes about as long as running it."""
    model = model_of()
    walls, tapes = [], []
    for _ in range(60):
        began = perf_counter()
        with ng.record(values=True) as tape:
            model.loss(IDS, IDS).backward()
        walls.append(1e3 * (perf_counter() - began))
        tapes.append(tape.ms)
    assert min(tapes) < 0.8 * min(walls)
