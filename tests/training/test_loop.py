"""The training loop: the book's semantics on the book's batches, and the extensions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tiktoken
from training.small import BYTES, one_line, small_loader, small_model, verdict_path

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.bpe import GPT2_PATTERN
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer
from nanograd_gpt.training.corpus import split_text
from nanograd_gpt.training.data import DataLoader, create_dataloader_v1
from nanograd_gpt.training.loop import (
    Progress,
    StepResult,
    evaluation_line,
    generate_and_print_sample,
    train_model_simple,
    training_steps,
)
from nanograd_gpt.training.loss import Evaluation, calc_loss_loader
from nanograd_gpt.training.schedule import WarmupCosine

Losses = tuple[list[float], list[float], list[int]]

TEXT_OF_20 = "".join(map(chr, np.random.default_rng(0).integers(97, 105, 161)))  # windows of 8 bytes


class Watched(AdamW):
    """Records the learning rate and the global norm of the gradient that every update used."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.rates: list[float] = []
        self.norms: list[float] = []

    def step(self, max_norm: float | None = None) -> Array | None:
        self.rates.append(self.lr)
        beta1, before = self.betas[0], self.exp_avg.astype(np.float64)
        norm = super().step(max_norm)
        used = (self.exp_avg - beta1 * before) / (1 - beta1)  # the running mean tells it
        self.norms.append(float(np.linalg.norm(used)))
        return norm


class Training:
    """Model, loaders and optimizer from seeds: 5 training batches per epoch, 2 validation batches."""

    def __init__(self, batch_size: int = 4, dtype: Any = np.float32, lr: float = 1e-2, **sizes: Any) -> None:
        self.model = small_model(dtype=dtype, **sizes)
        self.train = small_loader(TEXT_OF_20, batch_size, seed=3)
        self.val = small_loader(TEXT_OF_20[:57], batch_size, shuffle=False)
        self.optimizer = Watched(self.model.parameters(), lr=lr, weight_decay=0.1)

    def reports(self, **settings: Any) -> list[StepResult]:
        settings = {"num_epochs": 2, "eval_freq": 3, "eval_iter": 2, **settings}
        return list(training_steps(self.model, self.train, self.val, self.optimizer, "cpu", **settings))

    @property
    def weights(self) -> Any:
        return self.optimizer.flat.data


def two_rates(training: Training) -> Watched:
    ps = training.optimizer.parameters
    return Watched([{"params": ps[:5], "lr": 1e-3}, {"params": ps[5:]}], lr=1e-2)


def test_without_a_schedule_the_groups_rates_stay_as_they_are() -> None:
    training = Training()
    training.optimizer = two_rates(training)
    training.optimizer.param_groups[1]["lr"] = 0.003
    reports = training.reports(num_epochs=1)
    assert [g["lr"] for g in training.optimizer.param_groups] == [1e-3, 0.003]
    assert {report.lr for report in reports} == {1e-2}


def test_a_schedule_moves_every_groups_rate_in_proportion() -> None:
    training = Training()
    training.optimizer = two_rates(training)
    reports = training.reports(num_epochs=1, schedule=lambda step: 1e-2 / (1 + step))
    last = len(reports)
    np.testing.assert_allclose([g["lr"] for g in training.optimizer.param_groups], [1e-3 / last, 1e-2 / last])


def losses_of(reports: Sequence[StepResult]) -> list[float]:
    return [float(report.loss) for report in reports]


# --- the book's training, on the book's batches


class Folded(tiktoken.Encoding):
    """GPT-2's tokens modulo 61, for a small model; each decodes to its number and a newline."""

    def __init__(self) -> None:
        ranks = {bytes([value]): value for value in range(61)}
        super().__init__("folded", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text: str, **settings: Any) -> list[int]:
        return [i % 61 for i in get_tokenizer("gpt2").encode(text, **settings)]

    def decode(self, ids: Sequence[int], errors: str = "replace") -> str:
        return "".join(f"{i}\n" for i in ids)


@pytest.fixture(scope="module")
def book_batches() -> tuple[DataLoader, DataLoader]:
    text = verdict_path().read_text(encoding="utf-8")
    sizes: Any = {"batch_size": 2, "max_length": 256, "stride": 256, "tokenizer": Folded()}
    train, val, _ = split_text(text)
    return (
        create_dataloader_v1(train, **sizes, shuffle=True, drop_last=True, rng=Generator(123, 1)),
        create_dataloader_v1(val, **sizes, shuffle=False, drop_last=False),
    )


def book_model() -> tuple[GPTModel, AdamW]:
    model = small_model(123, vocab_size=61, context_length=256, emb_dim=4, n_heads=1, drop_rate=0.1)
    return model, AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)


def seeds_loop(model: GPTModel, train: DataLoader, val: DataLoader, optimizer: AdamW) -> Losses:
    """The document's train_model_simple, line by line, without its prints."""
    train_losses, val_losses, track_tokens_seen = [], [], []
    tokens_seen, global_step = 0, -1
    for _ in range(10):
        model.train()
        for input_batch, target_batch in train:
            optimizer.zero_grad()
            loss = model.loss(input_batch, target_batch)
            loss.backward()
            optimizer.step()
            tokens_seen += input_batch.size
            global_step += 1
            if global_step % 5 == 0:
                model.eval()
                with no_grad():
                    train_losses.append(calc_loss_loader(train, model, "cpu", num_batches=5))
                    val_losses.append(calc_loss_loader(val, model, "cpu", num_batches=5))
                model.train()
                track_tokens_seen.append(tokens_seen)
    return train_losses, val_losses, track_tokens_seen


def test_train_model_simple_on_the_verdict_is_the_documents_loop_with_its_prints(
    book_batches: tuple[DataLoader, DataLoader], capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = book_batches
    before = train.rng.state()
    model, optimizer = book_model()
    losses = train_model_simple(
        model,
        train,
        val,
        optimizer,
        "cpu",
        num_epochs=10,
        eval_freq=5,
        eval_iter=5,
        start_context="Every effort moves you",
        tokenizer=Folded(),
    )
    train_losses, val_losses, tokens_seen = losses
    steps = [*range(0, 86, 5)]
    assert len(steps) == 18
    assert tokens_seen == [512 * (step + 1) for step in steps]
    assert (tokens_seen[0], tokens_seen[-1]) == (512, 44_032)
    assert train_losses[-1] < train_losses[0]

    train.rng.set_state(before)
    oracle, its_optimizer = book_model()
    assert losses == seeds_loop(oracle, train, val, its_optimizer)
    np.testing.assert_array_equal(its_optimizer.flat.data, optimizer.flat.data)

    printed = capsys.readouterr().out.splitlines()
    for epoch in range(1, 11):
        for k, step in enumerate(steps):
            if step // 9 + 1 == epoch:
                expected = f"Ep {epoch} (Step {step:06d}): Train loss {train_losses[k]:.3f}, "
                assert printed.pop(0) == expected + f"Val loss {val_losses[k]:.3f}"
        assert re.fullmatch(r"(\d+ ){54}", printed.pop(0))  # 4 tokens and 50 new ones, newlines as spaces
    assert printed == []


@pytest.mark.parametrize(
    ("epoch", "step", "losses", "line"),
    [
        (1, 5, (8.1114, 8.3386), "Ep 1 (Step 000005): Train loss 8.111, Val loss 8.339"),
        (10, 85, (0.3912, 6.4518), "Ep 10 (Step 000085): Train loss 0.391, Val loss 6.452"),
        (1, 1234567, (12.0, float("nan")), "Ep 1 (Step 1234567): Train loss 12.000, Val loss nan"),
    ],
)
def test_an_evaluation_is_printed_as_in_the_book(epoch: int, step: int, losses: tuple[float, float], line: str) -> None:
    assert evaluation_line(epoch, step, Evaluation(*losses)) == line


def test_a_sample_is_50_greedy_tokens_on_one_line_without_dropout(capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(drop_rate=0.5)
    model.out_head.weight.data[10] *= 50  # so that "\n" is the likeliest now and then
    before = model.rng.state()
    generate_and_print_sample(model, BYTES, "cpu", "a\nb")
    assert model.rng.state() == before
    assert all(module.training for module in model.modules())
    expected = generate_text(model.eval(), np.array([[97, 10, 98]]), 50, 8)
    assert 10 in expected[0, 3:]
    assert capsys.readouterr().out == BYTES.decode(expected[0].tolist()).replace("\n", " ") + "\n"


# --- reports


def test_reports_count_epochs_from_1_steps_from_0_and_tokens_as_they_are_seen() -> None:
    reports = Training().reports(num_epochs=3)
    assert [r.global_step for r in reports] == [*range(15)]
    assert [r.epoch for r in reports] == [1] * 5 + [2] * 5 + [3] * 5
    assert [r.tokens_seen for r in reports] == [32 * (n + 1) for n in range(15)]
    assert [r.epoch_ended for r in reports] == ([False] * 4 + [True]) * 3


@pytest.mark.parametrize("eval_freq", [1, 2, 4, 5, 7, 100])
def test_every_eval_freqth_update_is_evaluated_the_first_among_them(eval_freq: int) -> None:
    evaluated = [r.global_step for r in Training().reports(eval_freq=eval_freq) if r.evaluation is not None]
    assert evaluated == [*range(0, 10, eval_freq)]


def test_step_0_is_measured_after_one_update() -> None:
    (report,) = Training(lr=0.1).reports(max_steps=1)
    untrained = Training()
    untrained.train.draw_order()  # the epoch's own
    assert report.evaluation is not None
    assert report.evaluation.train_loss < calc_loss_loader(untrained.train, untrained.model, "cpu", 2) - 0.05


@pytest.mark.parametrize("max_steps", [1, 4, 5, 6, 9, 10, 11])
def test_max_steps_is_the_number_of_updates_and_changes_none_of_them(max_steps: int) -> None:
    part, whole = Training(drop_rate=0.2), Training(drop_rate=0.2)
    reports = part.reports(max_steps=max_steps)
    assert len(reports) == part.optimizer.steps[0] == min(max_steps, 10)
    assert losses_of(reports) == losses_of(whole.reports()[:max_steps])


@pytest.mark.parametrize("done", [3, 4, 9])
def test_nothing_is_trained_where_max_steps_are_behind_already(done: int) -> None:
    training, progress = Training(), Progress()
    training.reports(max_steps=done, progress=progress)
    before = training.weights.copy()
    assert training.reports(max_steps=3, progress=progress) == []
    np.testing.assert_array_equal(training.weights, before)


# --- accumulation, clipping, schedule


@pytest.mark.parametrize(("k", "batch_size"), [(2, 1), (2, 5), (4, 5), (5, 2), (10, 1)])
def test_accumulating_k_batches_equals_batches_k_times_as_large(k: int, batch_size: int) -> None:
    many, large = Training(batch_size, np.float64), Training(k * batch_size, np.float64)
    ours, theirs = many.reports(accumulate=k, eval_freq=100), large.reports(eval_freq=100)
    assert [r.tokens_seen for r in ours] == [r.tokens_seen for r in theirs]
    np.testing.assert_allclose(losses_of(ours), losses_of(theirs), rtol=1e-12)
    np.testing.assert_allclose(many.optimizer.norms, large.optimizer.norms, rtol=1e-12)
    assert np.linalg.norm(many.weights - large.weights) <= 1e-12 * np.linalg.norm(large.weights)


def test_an_epochs_last_update_accumulates_the_batches_that_are_left() -> None:
    accumulating, single = Training(dtype=np.float64), Training(dtype=np.float64)
    reports = accumulating.reports(accumulate=2, eval_freq=100, schedule=lambda step: 1e-300)
    losses = losses_of(single.reports(eval_freq=100, schedule=lambda step: 1e-300))  # the weights stay as they are
    expected = [np.mean(losses[first:behind]) for first, behind in ((0, 2), (2, 4), (4, 5), (5, 7), (7, 9), (9, 10))]
    np.testing.assert_allclose(losses_of(reports), expected, rtol=1e-12)
    assert [r.tokens_seen for r in reports] == [64, 128, 160, 224, 288, 320]
    assert [r.epoch_ended for r in reports] == [False, False, True] * 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_max_norm_limits_the_global_norm_of_every_update(accumulate: int) -> None:
    clipped, free = Training(), Training()
    reports = clipped.reports(max_norm=0.05, accumulate=accumulate)
    assert free.reports(accumulate=accumulate)[0].grad_norm is None
    assert all(norm > 0.05 for norm in free.optimizer.norms)
    np.testing.assert_allclose(clipped.optimizer.norms, 0.05, rtol=1e-4)
    norms = [float(r.grad_norm) for r in reports if r.grad_norm is not None]
    assert norms[0] == pytest.approx(free.optimizer.norms[0], rel=1e-5)
    assert len(norms) == len(reports)
    assert min(norms) > 0.05


@pytest.mark.parametrize("clip_from", [0, 1, 4, 10])
def test_updates_are_clipped_from_the_one_that_clip_from_names(clip_from: int) -> None:
    late, free = Training(), Training()
    reports, unclipped = late.reports(max_norm=0.05, clip_from=clip_from), free.reports()
    assert [r.global_step for r in reports if r.grad_norm is not None] == [*range(clip_from, 10)]
    assert late.optimizer.norms[:clip_from] == free.optimizer.norms[:clip_from]
    np.testing.assert_allclose(late.optimizer.norms[clip_from:], 0.05, rtol=1e-4)
    assert losses_of(reports)[: clip_from + 1] == losses_of(unclipped)[: clip_from + 1]


def test_a_max_norm_above_every_gradients_changes_nothing() -> None:
    clipped, free = Training(), Training()
    assert losses_of(clipped.reports(max_norm=1e6)) == losses_of(free.reports())
    np.testing.assert_array_equal(clipped.weights, free.weights)


def test_each_update_uses_the_schedules_rate() -> None:
    training, schedule = Training(), WarmupCosine(0.01, total_steps=10, warmup_steps=3, minimum=0.001)
    reports = training.reports(schedule=schedule)
    assert training.optimizer.rates == [r.lr for r in reports] == [schedule(step) for step in range(10)]


def test_without_a_schedule_the_rate_is_the_optimizers() -> None:
    training = Training(lr=0.03)
    assert {r.lr for r in training.reports()} == {*training.optimizer.rates} == {0.03}


# --- refusals


@pytest.mark.parametrize("name", ["eval_freq", "eval_iter", "accumulate"])
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_1_are_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name}: {value}") as error:
        Training().reports(**{name: value})
    one_line(error)


def test_training_data_too_short_for_a_batch_is_refused() -> None:
    training = Training(batch_size=100)
    with pytest.raises(InputError, match="training data: too short") as error:
        training.reports()
    one_line(error)


def test_another_models_optimizer_is_refused_before_the_first_update() -> None:
    model, loader = small_model(), small_loader()
    before = [p.data.copy() for p in model.parameters()]
    optimizer = AdamW([*model.parameters(), *small_model().parameters()])
    steps = training_steps(model, loader, loader, optimizer, "cpu", num_epochs=1, eval_freq=1, eval_iter=1)
    with pytest.raises(InputError, match=r"^optimizer: it has parameters of another model; make it with AdamW"):
        next(steps)
    for p, kept in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, kept)
