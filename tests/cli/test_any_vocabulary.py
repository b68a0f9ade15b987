"""Runs with a padded vocabulary, or a tokenizer with gaps in its ids, other special tokens, or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiktoken
from cli.commands import fails, nanograd, train, works
from tokenizer.encodings import gappy, plain_encoding

from nanograd_gpt.errors import RunError
from nanograd_gpt.tokenizer.encoding import encode
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, save_tokenizer
from nanograd_gpt.training.checkpoint import read_state
from nanograd_gpt.training.config import from_toml, preset
from nanograd_gpt.training.find_checkpoint import find_checkpoint
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run import Run

SHORT = ["--prompt", "the old"]
HOT = ["--temperature", 30.0, "--max-new-tokens", 300]  # nearly uniform probabilities

ENCODINGS: dict[str, Callable[[], tiktoken.Encoding]] = {
    "gaps": gappy,
    "gaps, no special tokens": lambda: gappy({}),
    "another end of text": lambda: plain_encoding({"</s>": 256, "<pad>": 257}),
    "no special tokens": lambda: plain_encoding({}),
    "special tokens first": lambda: tiktoken.Encoding(
        "first",
        pat_str=gappy()._pat_str,
        mergeable_ranks={bytes([value]): value + 2 for value in range(256)},
        special_tokens={"<s>": 0, "<pad>": 1},
    ),
}


def every_command(run: Path) -> None:
    """Run all commands that write, read or show tokens; each must succeed."""
    works("generate", "--model", run, *SHORT, *HOT)
    works("generate", "--model", run, *SHORT, *HOT, "--top-k", 200, "--top-p", 0.99, "--min-p", 0.001)
    works("generate", "--model", run, *SHORT, "--repetition-penalty", 2.0, "--stop", "zzz")
    works("generate", "--model", run, *SHORT, "--beams", 3, "--n-best", 3, "--max-new-tokens", 30)
    works("explain-next", "--model", run, *SHORT, "--top", 200)
    works("evaluate", "--model", run)
    works("info", run)


# --- tokenizers of every kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODINGS)
def test_any_tokenizer_trains_and_serves_every_command(kind: str, data: Path, tmp_path: Path) -> None:
    tokenizer = ENCODINGS[kind]()
    save_tokenizer(tokenizer, tmp_path / "t.json")
    command = train(
        tmp_path / "run", data, "--tokenizer", tmp_path / "t.json", "--n-merges", 0, "--checkpoint-every", 2
    )
    works(*command, "--epochs", 1, "--max-steps", 5)
    every_command(tmp_path / "run")
    works("train", "--resume", tmp_path / "run", "--max-steps", 7)
    works("convert", tmp_path / "run", tmp_path / "theirs")
    assert works("generate", "--model", tmp_path / "theirs", *SHORT) == works(
        "generate", "--model", tmp_path / "run", *SHORT
    )


def test_special_tokens_in_the_text_are_read_as_such(data: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("<|user|>" + data.read_text(encoding="utf-8").replace(" and ", "<|user|>"), encoding="utf-8")
    save_tokenizer(gappy(), tmp_path / "t.json")
    works(*train(tmp_path / "run", text, "--tokenizer", tmp_path / "t.json", "--n-merges", 0, "--max-steps", 2))
    out = works("explain-next", "--model", tmp_path / "run", "--prompt", "a<|user|>b")
    assert "'<|user|>'" in out.splitlines()[3]
    n = len(encode(text.read_text(encoding="utf-8"), gappy()))
    assert f": {n - 1} tokens predicted" in works("evaluate", "--model", tmp_path / "run", "--data", text)


# --- a padded vocabulary


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run with 307 tokens in a vocabulary of 1,024, and its output next to it."""
    run = tmp_path_factory.mktemp("padded") / "run"
    printed = works(*train(run, data, "--vocab-size", 1024, "--max-steps", 3))
    run.with_name("printed.txt").write_text(printed, encoding="utf-8")
    return run


def test_a_training_with_a_larger_vocabulary_says_so_and_keeps_it(padded: Path) -> None:
    printed = padded.with_name("printed.txt").read_text(encoding="utf-8")
    assert "vocabulary 307 padded to 1,024;" in printed
    assert from_toml(padded / "config.toml")["vocab_size"] == 1024
    state = read_state(find_checkpoint(padded).path)
    assert state["config"]["vocab_size"] == 1024
    assert get_tokenizer(padded / "tokenizer.json").n_vocab == 307
    assert "padding          717 ids of the vocabulary have no token" in works("info", padded).splitlines()


def test_its_parameters_and_memory_count_the_padding(padded: Path, data: Path, tmp_path: Path) -> None:
    first = works(*train(tmp_path / "run", data, "--vocab-size", 1024, "--dry-run")).splitlines()
    plain = works(*train(tmp_path / "run", data, "--dry-run")).splitlines()
    counts = [int(lines[0].split(": ")[1].split()[0].replace(",", "")) for lines in (first, plain)]
    assert counts[0] - counts[1] == 2 * 16 * (1024 - 307)
    assert "vocabulary 307;" in plain[1]
    assert "vocab_size       50304" in works("info", "--preset", "gpt2-124m", "--vocab-size", 50304).splitlines()


def test_no_command_meets_a_padding_id(padded: Path) -> None:
    every_command(padded)
    assert "vocabulary 1024" in works("evaluate", "--model", padded)
    assert fails("explain-next", "--model", padded, "--top", 308, *SHORT).endswith("choose 1 .. 307 (the vocabulary)")


def test_it_goes_on_and_can_be_done_again_with_its_padding(padded: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(padded, tmp_path / "run"))
    works("train", "--resume", run, "--max-steps", 5)
    again = ["--config", padded / "config.toml", "--out", tmp_path / "again"]
    assert "vocabulary 307 padded to 1,024;" in works("train", *again)
    before, after = (read_metrics(path / "metrics.jsonl").evaluations for path in (padded, tmp_path / "again"))
    assert before == after


@pytest.mark.parametrize("given", [306, 1])
def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(given: int, data: Path, tmp_path: Path) -> None:
    message = fails(*train(tmp_path / "run", data, "--vocab-size", given))
    assert message == (
        f"--vocab-size: {given} is less than the tokenizer's 307; leave it out, or give that or more, such as 320, a "
        "multiple of 64"
    )
    assert not (tmp_path / "run").exists()


def test_the_tokenizers_own_size_is_no_padding(trained: Path, data: Path, tmp_path: Path) -> None:
    runs = []
    for name, more in (("given", ["--vocab-size", 307]), ("left out", [])):
        assert "vocabulary 307;" in works(*train(tmp_path / name, data, *more, "--max-steps", 2))
        runs.append(read_metrics(tmp_path / name / "metrics.jsonl").evaluations)
    assert runs[0] == runs[1]


# --- failures at the end of a run are found at its start


def test_a_disk_without_room_for_the_checkpoints_is_found_before_the_first_update(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, free=100_000))
    message = fails(*train(tmp_path / "run", data, "--max-steps", 2), code=1)
    assert message.startswith(f"training: checkpoints in {tmp_path / 'run'} will take 587,136 bytes")
    assert message.endswith("its disk has 100,000 left; free space there, or give another directory with --out")
    dry = nanograd(*train(tmp_path / "run", data, "--max-steps", 2), "--dry-run")
    assert (dry.code, dry.err) == (0, f"note: {message}\n")
    assert not (tmp_path / "run").exists()


def test_resuming_needs_room_for_one_more_checkpoint_and_the_best_weights(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    weights = 4 * 13_344
    room = 3 * weights + 2 * weights  # the best ones are replaced, so they are there twice for a moment
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, free=room))
    works("train", "--resume", run, "--max-steps", 11, "--epochs", 3)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, free=room - 1))
    assert f"will take {room:,} bytes" in fails("train", "--resume", run, "--max-steps", 12, "--epochs", 3, code=1)


@pytest.mark.draws
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    "what",
    [
        "nanograd_gpt.training.run.tokenizer_hash",
        "nanograd_gpt.training.run.environment",
        "nanograd_gpt.viz.plots.rendered",
    ],
)
def test_what_fails_at_the_end_fails_before_the_first_update(
    what: str, resumed: bool, trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run")) if resumed else tmp_path / "run"
    before = (run / "metrics.jsonl").read_bytes() if resumed else b""

    def failing(*args: Any, **more: Any) -> Any:
        raise RunError("it fails")

    monkeypatch.setattr(what, failing)
    command = ["train", "--resume", run, "--epochs", 3] if resumed else train(run, data, "--max-steps", 2)
    assert fails(*command, code=1) == "it fails"
    assert (run / "metrics.jsonl").read_bytes() == before if resumed else not (run / "metrics.jsonl").exists()


def test_the_rehearsal_draws_no_random_numbers_and_writes_nothing(trained: Path, tmp_path: Path) -> None:
    settings, losses = from_toml(trained / "config.toml"), []
    for rehearsed in (True, False):
        run = Run(preset("tiny").replace(settings), "cpu")
        if rehearsed:
            run.preflight(tmp_path / "run")
        losses.append([float(report.loss) for report, _ in zip(run.steps(), range(4), strict=False)])
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not any(tmp_path.iterdir())
