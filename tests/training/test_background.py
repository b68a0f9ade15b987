"""A checkpoint is hashed and flushed beside the training; what goes wrong there is not lost."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest
from training.small_run import small_config

from nanograd_gpt.training import run as run_module
from nanograd_gpt.training.background import Background
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import checkpoints


def test_a_function_runs_beside_the_block_which_waits_for_it_at_its_end() -> None:
    go, done = Event(), []

    def work() -> None:
        go.wait()
        done.append(current_thread())

    with Background() as beside:
        beside.start(work)
        assert done == []
        go.set()
    assert done[0] is not main_thread()


def test_an_error_is_raised_once_by_the_next_wait() -> None:
    def fail() -> None:
        raise OSError("no")

    with Background() as beside:
        beside.start(fail)
        with pytest.raises(OSError, match="no"):
            beside.start(lambda: pytest.fail("not after an error"))
        beside.wait()
    with pytest.raises(OSError, match="no"), Background() as beside:
        beside.start(fail)


def test_the_blocks_own_error_is_the_one_that_is_raised() -> None:
    def fail() -> None:
        raise OSError("second")

    def block() -> None:
        with Background() as beside:
            beside.start(fail)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        block()


def test_without_threads_a_function_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    done = []
    with Background() as beside:
        beside.start(lambda: done.append(current_thread()))
        assert done == [main_thread()]


def test_a_checkpoint_takes_its_place_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update between does not change what is written."""
    run, go = Run(small_config(tmp_path), "cpu"), Event()
    seal = run_module.seal_checkpoint

    def slow(path: Path) -> Path:
        go.wait()
        return seal(path)

    steps = run.steps()
    next(steps)
    before = {name: array.copy() for name, array in run.model.state_dict().items()}
    monkeypatch.setattr(run_module, "seal_checkpoint", slow)
    with Background() as beside:
        path = run.save(tmp_path / "run", beside)
        next(steps)
        assert checkpoints(tmp_path / "run") == []
        go.set()
    assert checkpoints(tmp_path / "run") == [path]
    run.load(path)
    assert {name: array.tobytes() for name, array in run.model.state_dict().items()} == {
        name: array.tobytes() for name, array in before.items()
    }
