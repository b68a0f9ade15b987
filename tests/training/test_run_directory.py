"""A run's directory and its checkpoints: which there are, which are kept, and which is the best."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from training.small import one_line
from training.small_run import facts, small_config, state

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.config import RunConfig
from nanograd_gpt.training.loop import Progress
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import best_checkpoint, checkpoints, new_directory, step_of
from nanograd_gpt.training.sources import load_pretrained


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return small_config(tmp_path)


@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_newest_checkpoints_are_kept_and_named_by_their_step(
    config: RunConfig, tmp_path: Path, n: int, keep: int
) -> None:
    run = Run(config.replace({"keep": keep}), "cpu")
    for step in range(8, 8 + n):  # from one digit to two
        run.progress.global_step = step
        run.save(tmp_path)
    kept = [f"step_{step}" for step in range(8, 8 + n)][-keep:]
    assert [path.name for path in checkpoints(tmp_path)] == kept
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {*kept}


def test_a_checkpoint_before_the_first_update_is_the_oldest(config: RunConfig, tmp_path: Path) -> None:
    run = Run(config, "cpu")
    assert run.save(tmp_path).name == "start"
    run.progress.global_step = 0
    run.save(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["start", "step_0"]
    assert [*map(step_of, checkpoints(tmp_path))] == [-1, 0]


def test_a_run_resumed_from_before_its_first_update_is_the_same_run(config: RunConfig, tmp_path: Path) -> None:
    whole, other = Run(config, "cpu"), Run(config, "cpu")
    path = other.save(tmp_path)
    resumed = Run(config, "cpu", other.tokenizer)
    resumed.load(path)
    assert [facts(report) for report in resumed.steps()] == [facts(report) for report in whole.steps()]
    assert state(resumed) == state(whole)


def test_the_lowest_validation_loss_is_known_and_survives_a_checkpoint(config: RunConfig, tmp_path: Path) -> None:
    run = Run(config, "cpu")
    losses = {r.global_step: r.evaluation.val_loss for r in run.steps() if r.evaluation is not None}
    lowest = min(losses, key=losses.__getitem__)
    assert (run.progress.best_step, run.progress.best_val_loss) == (lowest, losses[lowest])
    resumed = Run(config, "cpu", run.tokenizer)
    resumed.load(run.save(tmp_path))
    assert resumed.progress == run.progress


@pytest.mark.parametrize(
    ("losses", "best"),
    [([3.0, 2.0, 2.5], (1, 2.0)), ([nan, 3.0, inf], (1, 3.0)), ([2.0, 2.0], (0, 2.0)), ([nan], (None, None))],
)
def test_the_first_of_the_lowest_finite_losses_is_the_best(losses: list[float], best: tuple[Any, Any]) -> None:
    progress = Progress()
    for step, loss in enumerate(losses):
        progress.note_best(step, loss)
    assert (progress.best_step, progress.best_val_loss) == best


def test_the_best_weights_are_no_place_to_resume_from(config: RunConfig, tmp_path: Path) -> None:
    run = Run(config, "cpu")
    run.keep_best()
    run.save_best(tmp_path)
    best = best_checkpoint(tmp_path)
    assert sorted(file.name for file in best.iterdir()) == ["MANIFEST.json", "model.safetensors", "state.json"]
    assert checkpoints(tmp_path) == []
    model = load_pretrained(best)
    assert state_of(model) == state_of(run.model)
    with pytest.raises(InputError, match="holds weights without the optimizer's state; resume from a step_N") as error:
        run.load(best)
    assert str(best) in one_line(error)


def state_of(model: GPTModel) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def test_what_is_not_a_whole_checkpoint_is_not_taken_for_one(config: RunConfig, tmp_path: Path) -> None:
    Run(config, "cpu").save(tmp_path)
    for name in (".step_99.partial", "step_x", "step_"):
        (tmp_path / "checkpoints" / name).mkdir()
    (tmp_path / "checkpoints" / "start").rename(tmp_path / "checkpoints" / "step_7")
    assert [path.name for path in checkpoints(tmp_path)] == ["step_7"]


@pytest.mark.parametrize(("taken", "free"), [([], "tiny"), (["tiny"], "tiny-2"), (["tiny", "tiny-2"], "tiny-3")])
def test_a_new_directory_is_one_that_is_not_taken(tmp_path: Path, taken: list[str], free: str) -> None:
    for name in taken:
        (tmp_path / name).mkdir()
    assert new_directory(tmp_path, "tiny") == tmp_path / free


def test_a_config_that_cannot_be_written_leaves_the_old_one(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, "cpu")
    run.save_settings(tmp_path)
    before = (tmp_path / "config.toml").read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nanograd_gpt.files.fsync", full)
    run.change_length({"epochs": 4, "decay_steps": 0})
    with pytest.raises(OSError, match="No space left"):
        run.save_config(tmp_path)
    assert (tmp_path / "config.toml").read_bytes() == before
