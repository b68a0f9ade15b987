"""The loss of a text in sliding windows against one forward pass per token, and bits per byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from training.small import BYTES, CONFIG, TEXT, one_line, small_model

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import is_grad_enabled
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.tokenizer.tokenizer import text_to_token_ids, train_tokenizer
from nanograd_gpt.training import evaluation
from nanograd_gpt.training.evaluation import TextLoss, count_bytes, evaluate_text, sliding_windows

Ints = npt.NDArray[np.int64]
LENGTH, V = CONFIG.context_length, CONFIG.vocab_size
STRIDES = [1, 2, 3, 5, LENGTH - 1, LENGTH]


def ids_of(n: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(0, V, n)


def first_start(token: int, stride: int, length: int = LENGTH) -> int:
    """Start of the first window that predicts a token: the smallest multiple of stride within reach."""
    return next(start for start in range(0, token, stride) if token - start <= length)


def nats_of(model: GPTModel, ids: Ints, start: int, token: int) -> float:
    """Minus the log probability of one token after exactly its context."""
    logits = model(ids[None, start:token]).data[0, -1]
    return float(np.log(np.exp(logits - logits[ids[token]]).sum()))


# --- its definition


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("n", [2, 3, LENGTH, LENGTH + 1, LENGTH + 2, 2 * LENGTH, 2 * LENGTH + 1, 37])
def test_it_is_one_forward_pass_for_each_token_with_exactly_its_context(n: int, stride: int) -> None:
    model, ids = small_model(dtype=np.float64), ids_of(n)
    expected = math.fsum(nats_of(model, ids, first_start(t, stride), t) for t in range(1, n))
    for batch_size in (1, 2, 3, 50):
        result = evaluate_text(model, ids, stride, batch_size)
        assert result.nats == pytest.approx(expected, rel=1e-12)
        assert result.tokens == n - 1
        assert result.loss == result.nats / (n - 1)


def test_stride_1_gives_every_token_all_the_context_there_can_be() -> None:
    model, ids = small_model(dtype=np.float64), ids_of(40)
    expected = np.mean([nats_of(model, ids, max(0, t - LENGTH), t) for t in range(1, 40)])
    assert evaluate_text(model, ids, 1, 4).loss == pytest.approx(expected, rel=1e-12)


def test_without_a_stride_windows_do_not_overlap() -> None:
    model, ids = small_model(), ids_of(40)
    assert evaluate_text(model, ids) == evaluate_text(model, ids, LENGTH)
    assert evaluate_text(model, ids).windows == 5
    assert evaluate_text(model, ids, 1) != evaluate_text(model, ids)


def test_float32_is_close_to_float64() -> None:
    ids = ids_of(100)
    single, double = (evaluate_text(small_model(dtype=dtype), ids, 3, 4).loss for dtype in (np.float32, np.float64))
    assert single == pytest.approx(double, rel=1e-6)


def test_a_model_that_knows_nothing_has_the_loss_of_a_blind_choice_whatever_the_stride() -> None:
    model = small_model(dtype=np.float64)
    model.out_head.weight.data[:] = 0
    for stride in STRIDES:
        result = evaluate_text(model, ids_of(30), stride)
        assert result.loss == pytest.approx(math.log(V), rel=1e-12)
        assert result.perplexity == pytest.approx(V, rel=1e-12)
        assert result.bits_per_byte(29) == pytest.approx(math.log2(V), rel=1e-12)
        assert result.bits_per_byte(58) == pytest.approx(math.log2(V) / 2, rel=1e-12)


@pytest.mark.parametrize("loss", [701.0, 1e6, math.inf])
def test_a_perplexity_beyond_floats_is_infinite(loss: float) -> None:
    assert TextLoss(nats=3 * loss, tokens=3, windows=1).perplexity == math.inf


# --- windows


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("n", range(2, 17))
def test_every_token_but_the_first_is_scored_once_with_the_most_context(n: int, length: int) -> None:
    for stride in range(1, length + 1):
        windows = sliding_windows(n, length, stride)
        scored = [(t, w.start) for w in windows for t in range(w.stop - w.scored + 1, w.stop + 1)]
        assert scored == [(t, first_start(t, stride, length)) for t in range(1, n)]
        assert [w.start for w in windows] == [k * stride for k in range(len(windows))]
        assert all(w.length == length for w in windows[:-1])
        assert all(w.scored == stride for w in windows[1:-1])
        assert windows[-1].stop == n - 1


# --- how the model is asked


class Watched(GPTModel):
    """Records the shapes and modes of its calls."""

    def __init__(self) -> None:
        super().__init__({**CONFIG.to_dict(), "drop_rate": 0.5}, rng=Generator(1))
        self.asked: list[tuple[int, ...]] = []

    def hidden_states(self, ids: Ints, *more: Any) -> Tensor:
        assert not self.training
        assert not is_grad_enabled()
        self.asked.append(ids.shape)
        return super().hidden_states(ids, *more)


def test_equal_windows_go_in_batches_and_the_head_runs_on_what_is_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    head = F.linear_cross_entropy

    def counted(x: Tensor, weight: Tensor, targets: Ints) -> Tensor:
        rows.append(len(x.data))
        return head(x, weight, targets)

    monkeypatch.setattr(evaluation.F, "linear_cross_entropy", counted)
    model = Watched()
    result = evaluate_text(model, ids_of(20), stride=3, batch_size=2)  # windows 0-8, 3-11, 6-14, 9-17, 12-19
    assert model.asked == [(2, 8), (2, 8), (1, 7)]
    assert rows == [8 + 3, 3 + 3, 2]
    assert result.windows == 5


def test_dropout_rests_and_every_mode_is_as_before_even_after_an_error() -> None:
    model = Watched()
    model.trf_blocks[0].eval()
    before = [module.training for module in model.modules()]
    assert evaluate_text(model, ids_of(20)) == evaluate_text(model, ids_of(20))
    assert [module.training for module in model.modules()] == before
    model.out_head.weight.data = model.out_head.weight.data[:, 1:]
    with pytest.raises(Exception, match=r"shape|mismatch"):
        evaluate_text(model, ids_of(20))
    assert [module.training for module in model.modules()] == before
    assert is_grad_enabled()


# --- bytes


@pytest.mark.parametrize("n_merges", [0, 3, 40])
def test_bytes_are_exact_though_tokens_cut_characters(n_merges: int) -> None:
    text = "Grüße, 世界! 🙂 " * 3 + "naïve 🙂🙂"
    tokenizer = train_tokenizer(text[:20], n_merges)
    ids = text_to_token_ids(text, tokenizer)[0]
    cut = sum(b"\xef\xbf\xbd" in tokenizer.decode([i]).encode() for i in ids.tolist())
    assert cut > 0
    sizes = [count_bytes(ids[: i + 1], tokenizer) for i in range(len(ids))]
    assert sizes[-1] == len(text.encode())
    assert sizes == sorted(set(sizes))
    assert count_bytes(ids[1:], tokenizer) == len(text.encode()) - sizes[0]


def test_the_end_of_text_counts_as_it_is_written() -> None:
    text = "a<|endoftext|>b"
    assert count_bytes(text_to_token_ids(text, BYTES)[0], BYTES) == len(text)


def test_bytes_are_their_own_tokens_bits() -> None:
    ids = text_to_token_ids(TEXT, BYTES)[0]
    result = evaluate_text(small_model(), ids)
    assert result.bits_per_byte(count_bytes(ids[1:], BYTES)) == pytest.approx(result.loss / math.log(2), rel=1e-12)


# --- refusals


@pytest.mark.parametrize(
    ("ids", "settings", "says"),
    [
        (ids_of(1), {}, "text: it has 1 token; give 2 or more"),
        (ids_of(0), {}, "text: it has 0 tokens; give 2 or more"),
        (ids_of(6).reshape(2, 3), {}, r"text: expected token ids of shape \(n,\), got int64 of shape \(2, 3\)"),
        (ids_of(6) + 0.5, {}, "text: expected token ids .*, got float64"),
        (np.array([0, 1, V]), {}, f"text: 0 .. {V} reach outside the vocabulary, 0 .. {V - 1}"),
        (np.array([-1, 1]), {}, "text: -1 .. 1 reach outside"),
        (ids_of(6), {"stride": 0}, "stride: 0 is not allowed; choose 1 .. 8, the context length"),
        (ids_of(6), {"stride": LENGTH + 1}, "stride: 9 is not allowed"),
        (ids_of(6), {"stride": -1}, "stride: -1 is not allowed"),
        (ids_of(6), {"batch_size": 0}, "batch_size: 0 is not allowed"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_refused(ids: Any, settings: dict[str, int], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        evaluate_text(small_model(), ids, **settings)
    one_line(error)
