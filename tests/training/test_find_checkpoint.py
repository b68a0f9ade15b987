"""The newest undamaged checkpoint of a run is used; what a crash leaves behind is finished or undone."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training.small import one_line
from training.small_run import facts, small_config, state

from nanograd_gpt import files
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training import checkpoint as checkpoint_module
from nanograd_gpt.training.background import Background
from nanograd_gpt.training.checkpoint import load_checkpoint, load_model
from nanograd_gpt.training.config import RunConfig
from nanograd_gpt.training.find_checkpoint import find_checkpoint, recover_checkpoints
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import checkpoints
from nanograd_gpt.training.sources import load_pretrained


class Crash(BaseException):
    """The end of the process: nothing in the package catches it."""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return small_config(tmp_path)


@pytest.fixture
def run(config: RunConfig, tmp_path: Path) -> Run:
    """A run with checkpoints after its first and its second update."""
    run = Run(config, "cpu")
    for _ in zip(range(2), run.steps(), strict=False):
        run.save(tmp_path)
    return run


def damage(path: Path, how: str) -> None:
    if how == "no manifest":
        (path / "MANIFEST.json").unlink()
    elif how == "no model":
        (path / "model.safetensors").unlink()
    else:
        file = path / how
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


# --- which one


def test_a_run_given_as_a_checkpoint_or_a_model_file_is_told_apart(run: Run, tmp_path: Path) -> None:
    newest = re.escape(str(tmp_path / "checkpoints" / "step_1"))
    with pytest.raises(InputError, match=f"is a run; give one of its checkpoints, such as {newest}, or use load_pre"):
        load_checkpoint(tmp_path, run.model)
    with pytest.raises(InputError, match="is a run; use load_pretrained, which loads its newest checkpoint"):
        load_model(tmp_path)


@pytest.mark.parametrize("how", ["no manifest", "no model", "model.safetensors", "optimizer.safetensors", "state.json"])
def test_damage_to_the_newest_leads_to_the_one_before(run: Run, config: RunConfig, tmp_path: Path, how: str) -> None:
    damage(tmp_path / "checkpoints" / "step_1", how)
    found = find_checkpoint(tmp_path)
    assert found.path.name == "step_0"
    assert len(found.damaged) == 1
    assert str(tmp_path / "checkpoints" / "step_1") in found.damaged[0]
    resumed = Run(config, "cpu", run.tokenizer)
    resumed.load(found.path)
    whole = Run(config, "cpu")
    assert [facts(r) for r in resumed.steps()] == [facts(r) for r in whole.steps()][1:]
    assert state(resumed) == state(whole)


def test_the_library_warns_of_a_damaged_checkpoint_that_it_passes_over(run: Run, tmp_path: Path) -> None:
    damage(tmp_path / "checkpoints" / "step_1", "model.safetensors")
    with pytest.warns(UserWarning, match=r"step_1.model\.safetensors is damaged.*; an earlier checkpoint is used"):
        load_pretrained(tmp_path)


def test_where_all_are_damaged_the_error_is_about_the_newest(run: Run, tmp_path: Path) -> None:
    for path in checkpoints(tmp_path):
        damage(path, "no manifest")
    with pytest.raises(InputError, match="step_1 has no MANIFEST"):
        find_checkpoint(tmp_path)


def test_a_checkpoints_own_path_means_itself(run: Run, tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "checkpoints" / "step_0").run is None  # not in a run
    run.save_settings(tmp_path)
    found = find_checkpoint(tmp_path / "checkpoints" / "step_0")
    assert (found.path.name, found.damaged, found.run) == ("step_0", [], tmp_path)
    damage(found.path, "no model")
    with pytest.raises(InputError, match="step_0 cannot be read"):
        find_checkpoint(found.path)


def test_a_directory_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no checkpoint") as error:
        find_checkpoint(tmp_path)
    assert str(tmp_path) in one_line(error)


def test_a_run_resumed_from_an_earlier_checkpoint_deletes_the_later_one_when_it_has_saved(
    run: Run, config: RunConfig, tmp_path: Path
) -> None:
    earlier = Run(config, "cpu", run.tokenizer)
    earlier.load(tmp_path / "checkpoints" / "step_0")
    earlier.progress.global_step = 7
    shutil.copytree(tmp_path / "checkpoints" / "step_1", tmp_path / "checkpoints" / "step_9")
    earlier.save(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_1", "step_7"]


# --- a crash at every operation on files


def crash_at(n: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Crash in place of the n-th operation on files; of a tree to delete, one file has gone by then."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == n:
                if function is shutil_rmtree and Path(arguments[0]).is_dir():
                    next(Path(arguments[0]).iterdir()).unlink()
                raise Crash
            return function(*arguments, **options)

        return call

    shutil_rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", counted(shutil_rmtree))
    for name in ("replace", "mkdir", "write_text"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(files, "fsync", counted(files.fsync))
    monkeypatch.setattr(checkpoint_module, "write_safetensors", counted(checkpoint_module.write_safetensors))
    return lambda: count


def saves(run: Run, directory: Path) -> None:
    """Write all that a run writes: another checkpoint, whose predecessor goes, and the best weights over older ones.

    One file operation after another, beside the training or not.
    """
    run.keep_best()
    with Background() as beside:
        run.save(directory, beside)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1, 2])
def test_after_a_crash_anywhere_the_run_goes_on_to_the_same_bits(config: RunConfig, tmp_path: Path, keep: int) -> None:
    config = config.replace({"keep": keep})
    whole = Run(config, "cpu")
    expected = [facts(report) for report in whole.steps()]
    crashes, n = 0, 0
    while True:
        n += 1
        directory = tmp_path / f"crash_{n}"
        run = Run(config, "cpu", whole.tokenizer)
        steps = run.steps()
        for _ in range(2):  # so that there are older checkpoints and older best weights
            next(steps)
            saves(run, directory)
        next(steps)
        with pytest.MonkeyPatch.context() as monkeypatch:
            count = crash_at(n, monkeypatch)
            try:
                saves(run, directory)
            except Crash:
                crashes += 1
            else:
                assert count() < n
                break
        recover_checkpoints(directory)
        assert not list((directory / "checkpoints").glob(".*"))
        resumed = Run(config, "cpu", whole.tokenizer)
        resumed.load(find_checkpoint(directory).path)
        done = resumed.progress.global_step + 1
        assert done in (2, 3)
        assert [facts(report) for report in resumed.steps()] == expected[done:]
        assert state(resumed) == state(whole)
        load_pretrained(directory / "checkpoints" / "best")
    assert crashes > 25


def test_a_checkpoint_is_not_written_twice(run: Run, tmp_path: Path) -> None:
    run.save(tmp_path)
    newest = checkpoints(tmp_path)[-1]
    before = {file: file.stat().st_mtime_ns for file in newest.iterdir()}
    run.save(tmp_path)
    assert {file: file.stat().st_mtime_ns for file in newest.iterdir()} == before
    shutil.rmtree(newest)
    run.save(tmp_path)
    assert newest.is_dir()


# --- of a run that goes on and deletes its oldest


def delete_before(reading: Any, run: Run, directory: Path, oldest: Path) -> Any:
    """A reading before whose first call the run goes on, and deletes what was its newest checkpoint."""
    calls: list[object] = []

    def read(path: Path, *more: Any) -> Any:
        calls.append(path)
        if len(calls) == 1:
            assert path == oldest
            for _ in zip(range(3), run.steps(), strict=False):
                run.save(directory)
            assert not oldest.exists()
        return reading(path, *more)

    return read


@pytest.mark.parametrize("what", ["find_checkpoint.read_state", "sources.load_checkpoint"])
def test_a_checkpoint_that_its_run_deletes_while_it_is_read_is_passed_over_for_a_newer_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    module, name = what.split(".")
    reading = checkpoint_module.read_state if name == "read_state" else load_checkpoint
    newest = tmp_path / "checkpoints" / "step_1"
    monkeypatch.setattr(f"nanograd_gpt.training.{module}.{name}", delete_before(reading, run, tmp_path, newest))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = load_pretrained(tmp_path)
    assert told == []  # it is not called damaged
    assert state_of_weights(model) == state_of_weights(run.model)


def state_of_weights(model: GPTModel) -> list[bytes]:
    return [array.tobytes() for array in model.state_dict().values()]


def test_a_file_that_is_named_like_a_checkpoint_is_damage_not_a_deletion(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step_7").write_bytes(b"")
    (tmp_path / "checkpoints" / "step_8").symlink_to(tmp_path / "nowhere")
    found = find_checkpoint(tmp_path)
    assert (found.path.name, len(found.damaged)) == ("step_1", 2)
