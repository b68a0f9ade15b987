"""Resuming: a run stopped anywhere and resumed from its checkpoint equals an uninterrupted run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small import TEXT, one_line, small_loader, small_model
from training.small_run import facts, small_config, state

from nanograd_gpt.errors import InputError
from nanograd_gpt.optim import AdamW
from nanograd_gpt.training.checkpoint import load_checkpoint, save_checkpoint
from nanograd_gpt.training.config import RunConfig
from nanograd_gpt.training.find_checkpoint import find_checkpoint
from nanograd_gpt.training.loop import Progress, StepResult, training_steps
from nanograd_gpt.training.run import Run

Facts = list[tuple[Any, ...]]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return small_config(tmp_path)


def steps_up_to(run: Run, max_steps: int) -> Iterator[StepResult]:
    """Run.steps stopped early by max_steps, on the schedule of the whole run."""
    t = run.config.training
    return training_steps(
        run.model,
        run.train_loader,
        run.val_loader,
        run.optimizer,
        run.device,
        num_epochs=t.epochs,
        eval_freq=t.eval_freq,
        eval_iter=t.eval_iter,
        watch_every=t.watch_every,
        max_steps=max_steps,
        schedule=run.schedule,
        max_norm=t.max_norm,
        accumulate=t.accumulate,
        progress=run.progress,
    )


@pytest.mark.parametrize("stopped_by", ["a signal", "max_steps"])
@pytest.mark.parametrize(
    ("random", "accumulate", "stop"),
    [("own", 1, k) for k in range(1, 10)]
    + [("own", 2, k) for k in range(1, 6)]
    + [("own", 5, 1), ("own", 3, 3)]
    + [("torch", 1, k) for k in (1, 4, 5, 6, 8)]
    + [("torch", 2, 2)],
)
def test_a_run_stopped_after_any_update_goes_on_to_the_last_bit(
    config: RunConfig, tmp_path: Path, random: str, accumulate: int, stop: int, stopped_by: str
) -> None:
    config = config.replace({"accumulate": accumulate, "random": random})
    whole, first, second = (Run(config, "cpu") for _ in range(3))
    assert len(whole.train_loader) == 5
    expected = [facts(report) for report in whole.steps()]
    assert whole.total_steps == len(expected) > stop
    assert len({loss for _, _, _, loss, *_ in expected}) == len(expected)

    before = steps_up_to(first, stop) if stopped_by == "max_steps" else islice(first.steps(), stop)
    got = [facts(report) for report in before]
    assert len(got) == stop
    second.load(first.save(tmp_path))
    assert state(second) == state(first)
    got += [facts(report) for report in second.steps()]
    assert got == expected
    assert state(second) == state(whole)


def test_a_run_stopped_and_resumed_after_every_update_is_the_same_too(config: RunConfig, tmp_path: Path) -> None:
    whole = Run(config, "cpu")
    expected, got = [facts(report) for report in whole.steps()], []
    run = Run(config, "cpu")
    while report := next(run.steps(), None):
        got.append(facts(report))
        run.save(tmp_path)
        run = Run(config, "cpu")
        run.load(find_checkpoint(tmp_path).path)
    assert got == expected
    np.testing.assert_array_equal(run.optimizer.flat.data, whole.optimizer.flat.data)


@pytest.mark.parametrize("stop", [3, 5, 6])
def test_progress_and_streams_are_all_that_a_loop_of_ones_own_has_to_keep(tmp_path: Path, stop: int) -> None:
    def made() -> tuple[Any, ...]:
        model = small_model(1, drop_rate=0.3)
        return model, small_loader(seed=2), small_loader(shuffle=False), AdamW(model.parameters(), lr=0.01), "cpu"

    settings: Any = {"num_epochs": 2, "eval_freq": 2, "eval_iter": 1}
    whole = made()
    expected = [facts(report) for report in training_steps(*whole, **settings)]

    first, progress = made(), Progress()
    got = [facts(report) for report in islice(training_steps(*first, **settings, progress=progress), stop)]
    extra = {"progress": asdict(progress), "data_stream": first[1].rng.state()}
    save_checkpoint(tmp_path / "step", first[0], first[3], extra)

    second = made()
    saved = load_checkpoint(tmp_path / "step", second[0], second[3])
    second[1].rng.set_state(saved["data_stream"])
    progress = Progress(**saved["progress"])
    got += [facts(report) for report in training_steps(*second, **settings, progress=progress)]
    assert got == expected
    np.testing.assert_array_equal(second[3].flat.data, whole[3].flat.data)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_with_decay_on_matrices_alone_goes_on_to_the_last_bit(
    config: RunConfig, tmp_path: Path, stop: int
) -> None:
    config = config.replace({"decay": "matrices"})
    whole, first, second = (Run(config, "cpu") for _ in range(3))
    expected = [facts(report) for report in whole.steps()]
    got = [facts(report) for report in islice(first.steps(), stop)]
    second.load(first.save(tmp_path))
    assert state(second) == state(first)
    got += [facts(report) for report in second.steps()]
    assert got == expected
    assert state(second) == state(whole)
    assert [g["weight_decay"] for g in second.optimizer.param_groups] == [config.training.weight_decay, 0.0]


@pytest.mark.parametrize(("began", "goes_on"), [("all", "matrices"), ("matrices", "all")])
def test_a_run_does_not_go_on_with_other_parameters_decaying(
    config: RunConfig, tmp_path: Path, began: str, goes_on: str
) -> None:
    path = Run(config.replace({"decay": began}), "cpu").save(tmp_path)
    with pytest.raises(InputError, match=r"optimizer: [12] parameter groups in the state, [12] here") as error:
        Run(config.replace({"decay": goes_on}), "cpu").load(path)
    one_line(error)


def test_biases_and_norms_decay_in_a_run_unless_matrices_alone_are_asked_for(config: RunConfig) -> None:
    ends = []
    for decay, weight_decay in (("all", 0.0), ("all", 0.5), ("matrices", 0.5)):
        run = Run(config.replace({"decay": decay, "weight_decay": weight_decay, "max_steps": 2}), "cpu")
        next(run.steps())
        ends.append({name: a.tobytes() for name, a in run.model.state_dict().items()})
    none, everything, matrices = ends
    vectors = {name for name, p in run.model.named_parameters() if p.ndim < 2}
    assert {name for name in none if none[name] == matrices[name]} == vectors
    assert not any(none[name] == everything[name] for name in vectors if name.endswith("scale"))


# --- a run made longer or shorter

MIN_LR = 1e-4
SCHEDULES = ["cosine", "appendix-d"]


def lengthened(config: RunConfig, settings: dict[str, int]) -> tuple[list[float], list[float]]:
    """Learning rates of the updates as planned, and with another length."""
    planned, run = Run(config, "cpu"), Run(config, "cpu")
    run.change_length(settings)
    rates = [run.schedule(step) for step in range(run.total_steps)]
    return [planned.schedule(step) for step in range(planned.total_steps)], rates


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("settings", "total"), [({"epochs": 4}, 20), ({"epochs": 3, "max_steps": 13}, 13)], ids=str)
def test_a_run_made_longer_keeps_its_rates_and_then_stays_at_the_minimum(
    config: RunConfig, schedule: str, settings: dict[str, int], total: int
) -> None:
    planned, rates = lengthened(config.replace({"schedule": schedule, "min_lr": MIN_LR}), settings)
    assert len(planned) == 10
    assert rates == [*planned, *[MIN_LR] * (total - 10)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("settings", [{"epochs": 1}, {"max_steps": 5}], ids=str)
def test_a_run_made_shorter_keeps_its_rates_too(config: RunConfig, schedule: str, settings: dict[str, int]) -> None:
    planned, rates = lengthened(config.replace({"schedule": schedule}), settings)
    assert rates == planned[:5]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("decay_steps", [0, 20, 15])
def test_a_run_made_longer_with_decay_steps_stretches_its_cosine(
    config: RunConfig, schedule: str, decay_steps: int
) -> None:
    config = config.replace({"schedule": schedule, "min_lr": MIN_LR})
    _, rates = lengthened(config, {"epochs": 4, "decay_steps": decay_steps})
    _, whole = lengthened(config.replace({"epochs": 4, "decay_steps": decay_steps}), {})
    assert rates == whole
    ended = decay_steps or 20
    assert min(rates[2:ended]) > MIN_LR
    assert {*rates[ended:]} <= {MIN_LR}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_that_was_to_end_within_its_warm_up_ends_it_as_planned_and_then_decays(
    config: RunConfig, schedule: str
) -> None:
    config = config.replace({"schedule": schedule, "warmup_steps": 8, "max_steps": 4, "min_lr": MIN_LR})
    planned, rates = lengthened(config, {"max_steps": 0})
    assert rates[:4] == planned
    assert rates[4] == config.training.lr  # the peak, from which it decays
    assert rates[4:] == sorted(rates[4:], reverse=True)
    _, shorter = lengthened(config, {"max_steps": 2})
    assert shorter == planned[:2]
    _, anew = lengthened(config, {"max_steps": 0, "decay_steps": 0})
    assert anew == lengthened(config.replace({"max_steps": 0}), {})[1]


def test_a_length_is_changed_twice_as_if_at_once(config: RunConfig) -> None:
    config = config.replace({"min_lr": MIN_LR})
    once, twice = Run(config, "cpu"), Run(config, "cpu")
    once.change_length({"epochs": 4})
    twice.change_length({"epochs": 3})
    twice.change_length({"epochs": 4})
    assert once.config == twice.config


def test_a_flat_rate_has_no_plan_to_keep(config: RunConfig) -> None:
    run = Run(config.replace({"schedule": "flat"}), "cpu")
    run.change_length({"epochs": 4})
    assert run.config == config.replace({"schedule": "flat", "epochs": 4, "vocab_size": run.tokenizer.n_vocab})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_made_longer_never_trains_at_a_rate_of_0_without_being_told_to(config: RunConfig, schedule: str) -> None:
    run = Run(config.replace({"schedule": schedule, "min_lr": 0.0}), "cpu")
    with pytest.raises(InputError, match=r"resume: .* falls to min_lr = 0 at update 10, .* up to 20") as error:
        run.change_length({"epochs": 4})
    assert "--decay-steps 0" in one_line(error)
    run.change_length({"epochs": 4, "decay_steps": 0})
    assert min(run.schedule(step) for step in range(2, 20)) > 0


@pytest.mark.parametrize("stop", [3, 10])
def test_a_run_made_longer_makes_the_updates_of_one_with_these_decay_steps_from_the_start(
    config: RunConfig, tmp_path: Path, stop: int
) -> None:
    config = config.replace({"min_lr": MIN_LR})
    whole = Run(config.replace({"epochs": 4, "decay_steps": 10}), "cpu")
    expected = [facts(report) for report in whole.steps()]
    first, second = Run(config, "cpu"), Run(config, "cpu")
    got = [facts(report) for report in islice(first.steps(), stop)]
    second.change_length({"epochs": 4})
    second.load(first.save(tmp_path))
    got += [facts(report) for report in second.steps()]
    assert got == expected
    assert state(second) == state(whole)


def test_only_the_updates_after_the_warm_up_are_clipped_by_the_rule_of_appendix_d(config: RunConfig) -> None:
    clipped = {"max_norm": 1e-3, "warmup_steps": 4, "initial_lr": 1e-5}
    for schedule, first_clipped in (("cosine", 0), ("appendix-d", 5)):
        reports = list(Run(config.replace({**clipped, "schedule": schedule}), "cpu").steps())
        assert [r.grad_norm is None for r in reports] == [step < first_clipped for step in range(10)]


def test_a_run_has_the_initial_rate_of_its_settings(config: RunConfig) -> None:
    settings = {"schedule": "appendix-d", "lr": 1e-3, "initial_lr": 1e-5, "warmup_steps": 4}
    rates = [report.lr for report in Run(config.replace(settings), "cpu").steps()]
    assert rates[:5] == pytest.approx([1e-5, 2.575e-4, 5.05e-4, 7.525e-4, 1e-3], rel=1e-12)


# --- a run's text


def test_a_run_does_not_go_on_with_another_text(config: RunConfig, tmp_path: Path) -> None:
    run = Run(config, "cpu")
    path = run.save(tmp_path)
    Path(config.data.data).write_text(TEXT[:-1] + "!", encoding="utf-8")
    with pytest.raises(InputError, match=r"resume: the text .*text\.txt' has changed since") as error:
        Run(config, "cpu", run.tokenizer).load(path)
    assert str(path) in one_line(error)


# --- what a run is made of


def test_the_vocabulary_is_the_tokenizers(config: RunConfig) -> None:
    run = Run(config.replace({"vocab_size": 50_257}), "cpu")
    assert run.config.model.vocab_size == run.model.config.vocab_size == run.tokenizer.n_vocab == 256 + 10 + 1


@pytest.mark.parametrize(("train_ratio", "part"), [(0.01, "training"), (0.99, "validation")])
def test_a_text_too_short_for_a_batch_of_either_part_is_refused(
    config: RunConfig, train_ratio: float, part: str
) -> None:
    with pytest.raises(InputError, match=rf"data: the {part} part .* has \d+ tokens, too few .* windows of 8") as error:
        Run(config.replace({"train_ratio": train_ratio}), "cpu")
    one_line(error)


@pytest.mark.parametrize(
    ("accumulate", "max_steps", "expected"), [(1, 0, 10), (2, 0, 6), (5, 0, 2), (9, 0, 2), (1, 7, 7), (1, 99, 10)]
)
def test_total_steps_are_the_updates_that_are_made(
    config: RunConfig, accumulate: int, max_steps: int, expected: int
) -> None:
    run = Run(config.replace({"accumulate": accumulate, "max_steps": max_steps}), "cpu")
    assert run.total_steps == expected == len(list(run.steps()))


@pytest.mark.parametrize("random", ["own", "torch"])
def test_one_seed_makes_one_run_and_another_seed_another(config: RunConfig, random: str) -> None:
    one, same, other = (Run(config.replace({"seed": seed, "random": random}), "cpu") for seed in (1, 1, 2))
    assert state(one) == state(same)
    assert (one.optimizer.flat.data != other.optimizer.flat.data).any()
    assert one.train_loader.draw_order().tolist() == same.train_loader.draw_order().tolist()
