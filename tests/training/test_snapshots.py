"""snapshots.json: what the model makes of a fixed text at the beginning, the middle and the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small_run import small_config, state

from nanograd_gpt.backend.plain.activation import softmax
from nanograd_gpt.files import UnreadableError
from nanograd_gpt.tape.attention_weights import attention_weights
from nanograd_gpt.tokenizer.encoding import encode
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.run_directory import SNAPSHOTS
from nanograd_gpt.training.snapshots import (
    N_TOKENS,
    Snapshots,
    cut_snapshots,
    first_middle_last,
    fixed_text,
    read_snapshots,
    shown_blocks,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(small_config(tmp_path), "cpu")


def steps(directory: Path) -> list[int]:
    return [snapshot["step"] for snapshot in read_snapshots(directory / SNAPSHOTS)]


def test_a_snapshot_holds_what_the_model_computes(run: Run, tmp_path: Path) -> None:
    Snapshots(run, tmp_path).take()
    (found,) = read_snapshots(tmp_path / SNAPSHOTS)
    ids, after = fixed_text(run)
    assert "".join(found["text"]) + found["next"] == run.tokenizer.decode([*ids.tolist(), after])
    expected = attention_weights(run.model, ids[None])[:, 0]
    for block, heads in zip(expected, found["attention"], strict=True):
        for head, rows in zip(block, heads, strict=True):
            for q, row in enumerate(rows):
                np.testing.assert_allclose(row, head[q, : q + 1], atol=6e-4)
    logits = run.model.eval()(ids[None]).data[0, -1].astype(np.float64)
    chances = softmax(logits, axis=-1)
    assert found["next_probability"] == pytest.approx(chances[after], abs=6e-6)
    assert [p for _, p in found["after_text"]] == pytest.approx(sorted(chances, reverse=True)[:5], abs=6e-6)
    assert "".join(found["prompt"]) == "oves you", "the end that fits the context"
    assert (found["step"], found["epoch"], found["blocks"]) == (-1, 0, [0])


def test_a_snapshot_changes_nothing_of_the_run(run: Run, tmp_path: Path) -> None:
    run.model.train()
    before = state(run)
    Snapshots(run, tmp_path).take()
    assert state(run) == before
    assert run.model.training


def test_the_first_the_middle_and_the_last_are_kept(run: Run, tmp_path: Path) -> None:
    snapshots = Snapshots(run, tmp_path)
    assert [step for step in range(run.total_steps) if snapshots.is_due(step)] == [0, 4]
    for step in (0, 1, 4, 5, 9):
        run.progress.global_step = step
        snapshots.take()
    assert steps(tmp_path) == [0, 4, 9]


def test_a_resumed_run_takes_those_after_its_checkpoint_again(run: Run, tmp_path: Path) -> None:
    snapshots = Snapshots(run, tmp_path)
    for step in (0, 4, 6):
        run.progress.global_step = step
        snapshots.take()
    cut_snapshots(tmp_path, 4)
    assert steps(tmp_path) == [0, 4]
    run.progress.global_step = 4
    snapshots.take()
    assert steps(tmp_path) == [0, 4]
    cut_snapshots(tmp_path / "nowhere", 4)
    assert not (tmp_path / "nowhere").exists()


def test_weights_that_are_not_finite_leave_the_snapshots_as_they_are(run: Run, tmp_path: Path) -> None:
    snapshots = Snapshots(run, tmp_path)
    snapshots.take()
    run.progress.global_step = 3
    run.model.out_head.weight.data[0] = np.inf
    snapshots.take()
    assert steps(tmp_path) == [-1]


def test_a_damaged_file_is_refused_by_readers_and_replaced_by_the_run(run: Run, tmp_path: Path) -> None:
    path = tmp_path / SNAPSHOTS
    Snapshots(run, tmp_path).take()
    whole = json.loads(path.read_text(encoding="utf-8"))["snapshots"][0]
    damaged: list[Any] = [
        "x",
        {**whole, "step": "1"},
        {**whole, "text": whole["text"][1:]},
        {**whole, "attention": [[[[2.0]]]]},
        {**whole, "after_text": []},
        {**whole, "after_prompt": [["a"]]},
        {**whole, "blocks": [1, 2]},
        {**whole, "next_probability": float("nan")},
        {name: value for name, value in whole.items() if name != "prompt"},
    ]
    for snapshot in damaged:
        path.write_text(json.dumps({"snapshots": [snapshot]}), encoding="utf-8")
        with pytest.raises(UnreadableError, match="does not hold a run's snapshots"):
            read_snapshots(path)
    Snapshots(run, tmp_path).take()
    assert steps(tmp_path) == [-1]


def test_a_text_of_lines_is_shown_from_the_beginning_of_one(run: Run) -> None:
    run.train_text, run.val_text = "a line", "in the wind\nthe sun rose over a quiet river and an old miller"
    ids, after = fixed_text(run)
    length = min(N_TOKENS, run.config.model.context_length)
    assert [*ids.tolist(), after] == encode("the sun rose over a quiet river", run.tokenizer)[: length + 1]
    run.train_text = "a line\n"
    assert run.tokenizer.decode(fixed_text(run)[0].tolist()).startswith("in the")
    run.train_text, run.val_text = "a line", "in the wind and over the river\nthe"
    assert run.tokenizer.decode(fixed_text(run)[0].tolist()).startswith("in the")


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "expected"),
    [(1, 2, [0]), (4, 4, [0, 1, 2, 3]), (12, 12, [*range(12)]), (48, 25, [0, 12, 24, 35, 47]), (3, 200, [0, 2])],
)
def test_of_many_heads_those_of_evenly_spaced_blocks_are_kept(n_layers: int, n_heads: int, expected: list[int]) -> None:
    assert shown_blocks(n_layers, n_heads) == expected


def test_of_several_snapshots_the_one_nearest_to_the_middle_is_chosen() -> None:
    taken = [{"step": step} for step in (0, 3, 11, 20)]
    assert [s["step"] for s in first_middle_last(taken, 10)] == [0, 11, 20]
    assert first_middle_last(taken[:2], 10) == taken[:2]
    assert first_middle_last([], 10) == []
