"""Tokens replayed from a CUDA graph are those without it, on the stand-in and on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from cusim.checks import needs_compiler
from standin.either import simulator_or_gpu
from standin.record import CUDARuntimeError, Record, deeds

import nanograd_gpt as ng
from nanograd_gpt import GPTConfig, GPTModel, Sampling, generate_batch
from nanograd_gpt.backend.precision import set_precision
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.generation import replay
from nanograd_gpt.generation.decoder import IncrementalDecoder
from nanograd_gpt.rng import Generator

pytestmark = [needs_compiler, pytest.mark.slow]  # kernels run on the simulator
CONFIG = GPTConfig(vocab_size=31, context_length=80, emb_dim=16, n_heads=2, n_layers=2, drop_rate=0.1)
PROMPTS = [[1, 2, 3], [4], [5, 6]]


@pytest.fixture(params=["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
def standin(request: pytest.FixtureRequest) -> Iterator[Record | None]:
    with simulator_or_gpu(request.param) as record:
        yield record
    set_precision("fp32")


@pytest.fixture
def model(standin: Record | None) -> GPTModel:
    return GPTModel(CONFIG, rng=Generator(7)).to("cuda").eval()


def texts(
    model: GPTModel, prompts: Sequence[Any], n: int, sampling: Sampling | None = None, eos_id: int | None = None
) -> list[list[int]]:
    return [text.tolist() for text in generate_batch(model, prompts, n, 80, sampling, eos_id, Generator(3))]


def logits_of(model: GPTModel, text: Any, precisions: Sequence[str]) -> list[Any]:
    """The logits after a text and after each of some tokens, each in a precision."""
    decoder, found = IncrementalDecoder(model, 80, 80), []
    for i, precision in enumerate(precisions):
        set_precision(precision)
        found.append(to_host(decoder.next_logits([text], [0])).copy())
        text = np.append(text, i)
    return found


def without_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "RUN_BEFORE", 10**9)


@pytest.mark.parametrize(
    ("prompts", "sampling", "precision"),
    [(PROMPTS[:1], None, "fp32"), (PROMPTS, Sampling(1.0, top_k=7), "fp32"), (PROMPTS, None, "bf16")],
    ids=["one", "three of other lengths, sampled", "in bf16"],
)
def test_replayed_tokens_are_those_of_others(
    prompts: Any, sampling: Sampling | None, precision: str, model: GPTModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_precision(precision)
    replayed = texts(model, prompts, 8, sampling)
    without_replay(monkeypatch)
    assert replayed == texts(model, prompts, 8, sampling)


def test_logits_have_the_same_bits_in_every_slot(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond slot 64, a query has two blocks."""

    def logits() -> list[Any]:
        return logits_of(model, np.arange(60) % 31, ["fp32"] * 12)

    replayed = logits()
    without_replay(monkeypatch)
    for a, b in zip(replayed, logits(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_that_end_leave_a_cache_that_is_recorded_anew(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = texts(model, PROMPTS, 14)
    eos_id = first[0][len(PROMPTS[0]) + 5]
    replayed = texts(model, PROMPTS, 14, eos_id=eos_id)
    assert len({len(text) - len(prompt) for text, prompt in zip(replayed, PROMPTS, strict=True)}) > 1
    without_replay(monkeypatch)
    assert replayed == texts(model, PROMPTS, 14, eos_id=eos_id)


def test_a_text_beyond_its_context_goes_on(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = [list(range(20))]
    replayed = generate_batch(model, prompt, 10, 25)[0].tolist()
    without_replay(monkeypatch)
    assert replayed == generate_batch(model, prompt, 10, 25)[0].tolist()


def test_a_replayed_token_is_one_launch_and_one_copy_to_the_host(standin: Record | None, model: GPTModel) -> None:
    if standin is None:
        pytest.skip("needs the simulator, which counts")
    decoder, text = IncrementalDecoder(model, 80, 80), np.arange(3)
    for i in range(6):
        standin.launches.clear()
        standin.syncs.clear()
        decoder.next_logits([text], [0])
        text = np.append(text, i)
    assert standin.launches == ["graph"]
    assert deeds(standin.syncs) == []


def test_another_precision_is_not_replayed(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def logits() -> list[Any]:
        return logits_of(model, np.arange(3), [*["fp32"] * 6, "tf32", "fp32"])

    replayed = logits()
    without_replay(monkeypatch)
    for a, b in zip(replayed, logits(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_cuda_cannot_record_generation_goes_on(
    standin: Record | None, model: GPTModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if standin is None:
        pytest.skip("needs the simulator, where CUDA can be made to fail")
    from nanograd_gpt.backend.cuda import graph

    def fail(*_: Any, **__: Any) -> Any:
        raise CUDARuntimeError(2)

    monkeypatch.setattr(graph.StepGraph, "__init__", fail)
    with pytest.warns(RuntimeWarning, match="tokens are not replayed, which is slower: .*memory") as warnings:
        got = texts(model, PROMPTS, 6)
    assert len(warnings) == 1
    without_replay(monkeypatch)
    assert got == texts(model, PROMPTS, 6)


def test_a_replay_with_other_bits_is_not_used(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replay.RecordedToken.replay
    monkeypatch.setattr(replay.RecordedToken, "replay", lambda token: found(token) + 1)
    with pytest.warns(RuntimeWarning, match="a replay had other bits"):
        got = texts(model, PROMPTS, 6)
    without_replay(monkeypatch)
    assert got == texts(model, PROMPTS, 6)


def test_logits_of_nan_are_refused_in_one_line_and_without_a_warning(model: GPTModel) -> None:
    decoder, text = IncrementalDecoder(model, 80, 80), np.arange(3)
    model.final_norm.scale.data[...] = np.nan
    for i in range(5):
        logits = decoder.next_logits([text], [0])
        text = np.append(text, i)
    assert np.isnan(to_host(logits)).all()
    assert decoder.replayed is not None
    assert decoder.replayed.recorded is not None


@pytest.mark.usefixtures("standin")
def test_a_token_that_somebody_watches_is_not_replayed(model: GPTModel) -> None:
    decoder, text, counts = IncrementalDecoder(model, 80, 80), np.arange(3), []
    for i in range(8):
        with ng.record() as tape:
            decoder.next_logits([text], [0])
        counts.append(len(tape.operations))
        text = np.append(text, i)
    assert len(set(counts)) == 1
    assert {operation.path for operation in tape.operations} >= {"trf_blocks.0.att", "final_norm"}


@pytest.mark.usefixtures("standin")
def test_anomalies_are_found_in_tokens(model: GPTModel) -> None:
    decoder, text = IncrementalDecoder(model, 80, 80), np.arange(3)
    for i in range(5):
        decoder.next_logits([text], [0])
        text = np.append(text, i)
    model.final_norm.scale.data[...] = 3e38
    with ng.detect_anomaly(), pytest.raises(ng.NonFiniteError):
        decoder.next_logits([text], [0])


def test_a_second_recording_that_fails_is_noticed(
    standin: Record | None, model: GPTModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if standin is None:
        pytest.skip("needs the simulator, where CUDA can be made to fail")
    decoder, text = IncrementalDecoder(model, 80, 80), np.arange(3)

    def take(n: int) -> None:
        nonlocal text
        for i in range(n):
            decoder.next_logits([text], [0])
            text = np.append(text, i)

    take(5)

    def fail(token: Any) -> Any:
        raise MemoryError("none left")

    monkeypatch.setattr(replay.RecordedToken, "record", fail)
    set_precision("tf32")
    with pytest.warns(RuntimeWarning, match="none left") as warnings:
        take(4)
    assert len(warnings) == 1


@pytest.mark.usefixtures("standin")
def test_a_model_of_the_plain_formulas_is_not_recorded() -> None:
    model = GPTModel(CONFIG, rng=Generator(7)).to("cuda", np.float64).eval()
    decoder, text = IncrementalDecoder(model, 80, 80), np.arange(3)
    for i in range(5):
        decoder.next_logits([text], [0])
        text = np.append(text, i)
    assert decoder.replayed is not None
    assert not decoder.replayed.possible
