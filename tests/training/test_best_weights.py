"""The weights of the lowest validation loss are in memory until the next checkpoint is written, and never lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from training.small_run import small_config

from nanograd_gpt.training.checkpoint import read_state
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import best_checkpoint
from nanograd_gpt.training.sources import load_pretrained


def test_the_kept_weights_are_those_of_the_moment_and_go_to_the_disk_with_the_next_checkpoint(tmp_path: Path) -> None:
    run, directory = Run(small_config(tmp_path), "cpu"), tmp_path / "run"
    steps = run.steps()
    next(steps)
    run.keep_best()
    before = {name: array.tobytes() for name, array in run.model.state_dict().items()}
    next(steps)
    assert not best_checkpoint(directory).exists()
    run.save(directory)
    best = load_pretrained(best_checkpoint(directory))
    assert {name: array.tobytes() for name, array in best.state_dict().items()} == before
    assert read_state(best_checkpoint(directory))["progress"]["global_step"] == 0
    written = best_checkpoint(directory).stat().st_mtime_ns
    next(steps)
    run.save(directory)
    assert best_checkpoint(directory).stat().st_mtime_ns == written, "they are not written twice"


def test_better_weights_take_the_memory_of_those_before(tmp_path: Path) -> None:
    run = Run(small_config(tmp_path), "cpu")
    run.keep_best()
    places = {name: id(array) for name, array in run._best.arrays.items()}
    next(run.steps())
    run.keep_best()
    assert {name: id(array) for name, array in run._best.arrays.items()} == places
    np.testing.assert_array_equal(run._best.arrays["out_head.weight"], run.model.out_head.weight.data)
