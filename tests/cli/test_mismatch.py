"""A run whose config.toml, text, tokenizer or environment is not its checkpoint's: the checkpoint's settings decide."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cli.commands import COSINE, contents, fails, nanograd, train, works

from nanograd_gpt.training.checkpoint import read_state
from nanograd_gpt.training.config import from_toml
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run_directory import checkpoints


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    """A run of 3 updates of 6 an epoch, on a text of its own."""
    text = tmp_path / "text.txt"
    text.write_bytes(data.read_bytes())
    works(*train(tmp_path / "run", text, "--max-steps", 3, "--checkpoint-every", 2, "--drop-rate", 0.2))
    return tmp_path / "run"


def edit(run: Path, old: str, new: str) -> None:
    file = run / "config.toml"
    before = file.read_text(encoding="utf-8")
    assert old in before
    file.write_text(before.replace(old, new), encoding="utf-8")


def change_state(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change state.json of every checkpoint, and its hash with it."""
    for path in (*checkpoints(run), run / "checkpoints" / "best"):
        state = json.loads((path / "state.json").read_bytes())
        change(state)
        (path / "state.json").write_text(json.dumps(state), encoding="utf-8")
        hashes = json.loads((path / "MANIFEST.json").read_bytes())
        hashes["state.json"] = sha256((path / "state.json").read_bytes()).hexdigest()
        (path / "MANIFEST.json").write_text(json.dumps(hashes), encoding="utf-8")


def older(run: Path) -> None:
    """Make a run one of the versions whose checkpoints held no settings."""
    change_state(run, lambda state: state.pop("settings"))


def weights(run: Path, step: int) -> list[bytes]:
    path = run / "checkpoints" / f"step_{step}"
    return [(path / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


# --- config.toml is missing or damaged: nothing is lost


def empty(file: Path) -> None:
    file.write_bytes(b"")


def incomplete(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(("lr ", "batch_size "))), encoding="utf-8")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])  # in the middle of a text


def not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nowhere"))


DAMAGES = [
    (Path.unlink, "is missing"),
    (empty, "has no settings"),
    (incomplete, "lacks batch_size, lr"),
    (cut, "cannot be read (it is not TOML"),
    (not_text, "cannot be read (it is not UTF-8 text"),
    (a_directory, "cannot be read (it is a directory, not a regular file)"),
    (dangling, "cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGES, ids=[what for _, what in DAMAGES])
def test_a_lost_config_is_restored_from_the_checkpoint_and_the_run_goes_on_to_the_same_bits(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], what: str
) -> None:
    file, newest = run / "config.toml", run / "checkpoints" / "step_2"
    whole = shutil.copytree(run, tmp_path / "whole")
    before = from_toml(file)
    damage(file)
    was = file.read_bytes() if file.is_file() else b""
    note = f"note: {file} {what}"
    for does, more in (("would be", ["--dry-run"]), ("is", ["--max-steps", 6])):
        result = nanograd("train", "--resume", run, *more)
        assert result.code == 0, result
        assert result.err.startswith(note), result
        assert result.err.endswith(f"; it {does} restored from {newest}\n")
        assert result.err.count("\n") == 1
    assert from_toml(file) == {**before, "max_steps": 6}
    if what.startswith("cannot"):
        kept = run / "config.toml.damaged"
        assert (kept.read_bytes() if kept.is_file() else b"") == was
    works("train", "--resume", whole, "--max-steps", 6)
    assert weights(run, 5) == weights(whole, 5)


@pytest.mark.parametrize(("damage", "what"), DAMAGES[1:4], ids=[what for _, what in DAMAGES[1:4]])
def test_commands_that_read_a_run_need_no_config_and_say_what_is_wrong_with_it(
    run: Path, tmp_path: Path, damage: Callable[[Path], None], what: str
) -> None:
    whole = works("evaluate", run)
    damage(run / "config.toml")
    before = contents(run)
    result = nanograd("evaluate", run)
    assert (result.code, result.out) == (0, whole)
    assert result.err.startswith(f"note: {run / 'config.toml'} {what}")
    assert result.err.endswith("; the checkpoint's settings are used\n")
    assert f"note: {run / 'config.toml'} {what}" in nanograd("info", run).err
    assert contents(run) == before
    works("generate", run, "--prompt", "the", "--max-new-tokens", 2)
    works("convert", run, tmp_path / "model.safetensors")


# --- config.toml says something else


@pytest.mark.parametrize(
    ("old", "new", "difference", "safe"),
    [
        ("\nlr = 0.002", "\nlr = 0.1", "lr: config.toml says 0.1, the checkpoint 0.002", True),
        ("eval_freq = 3", "eval_freq = 1", "eval_freq: config.toml says 1, the checkpoint 3", True),
        ("keep = 2", "keep = 9", "keep: config.toml says 9, the checkpoint 2", True),
        ('"Every effort moves you"', '"the"', "prompt: config.toml says 'the', the checkpoint 'Every effort", True),
        ('schedule = "flat"', 'schedule = "cosine"', "schedule: config.toml says 'cosine', the checkpoint 'fl", True),
        ("batch_size = 2", "batch_size = 4", "batch_size: config.toml says 4, the checkpoint 2", False),
        ("emb_dim = 16", "emb_dim = 32", "emb_dim: config.toml says 32, the checkpoint 16", False),
        ("drop_rate = 0.2", "drop_rate = 0", "drop_rate: config.toml says 0, the checkpoint 0.2", False),
        ("seed = 123", "seed = 124", "seed: config.toml says 124, the checkpoint 123", False),
        ('tokenizer = "own"', 'tokenizer = "gpt2"', "tokenizer: config.toml says 'gpt2', the checkpoint 'own'", False),
        ("n_merges = 50", "n_merges = true", "n_merges: config.toml says True, the checkpoint 50", False),
        ("seed = 123", 'seed = 123\nsed = "x"', "sed: config.toml says 'x', the checkpoint has none", False),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) and "config.toml says" in value else "",
)
def test_another_setting_is_shown_and_refused_and_taken_with_allow_mismatch_where_that_is_safe(
    run: Path, old: str, new: str, difference: str, safe: bool
) -> None:
    edit(run, old, new)
    before = contents(run)
    message = fails("train", "--resume", run, "--max-steps", 4)
    assert message.startswith(f"--resume: {run / 'config.toml'} differs from {run / 'checkpoints' / 'step_2'}: ")
    assert difference in message
    assert f"delete {run / 'config.toml'} to go on with the checkpoint's settings, or " in message
    assert ("add --allow-mismatch" in message) == safe
    assert contents(run) == before
    allowed = nanograd("train", "--resume", run, "--max-steps", 4, "--allow-mismatch")
    if not safe:
        assert allowed.code == 2
        assert difference in allowed.err
        assert "--allow-mismatch does not change this in a run" in allowed.err
        assert contents(run) == before
        (run / "config.toml").unlink()  # as it says
        assert nanograd("train", "--resume", run, "--max-steps", 4).code == 0
        return
    assert allowed.code == 0, allowed
    assert f"note: {difference}" in allowed.err
    name = difference.partition(":")[0]
    kept = from_toml(run / "config.toml")[name]
    assert new.strip().endswith(json.dumps(kept))
    assert read_state(run / "checkpoints" / "step_3")["settings"]["training"][name] == kept
    works("train", "--resume", run, "--max-steps", 5)  # it is the run's own now


def test_all_differences_are_shown(run: Path) -> None:
    edit(run, "\nlr = 0.002", "\nlr = 1")
    edit(run, "batch_size = 2", "batch_size = 3")
    message = fails("train", "--resume", run)
    assert "batch_size: config.toml says 3, the checkpoint 2; lr: config.toml says 1, the checkpoint 0.002; " in message
    assert message.endswith(f"or start a new run with --config {run / 'config.toml'}")


def test_an_allowed_change_holds_even_if_the_run_stops_before_its_next_checkpoint(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    edit(run, "\nlr = 0.002", "\nlr = 0.1")
    with monkeypatch.context() as patch:
        patch.setattr("nanograd_gpt.cli.train.Run.steps", interrupted)
        assert nanograd("train", "--resume", run, "--max-steps", 4, "--allow-mismatch").code == 130
    works("train", "--resume", run)
    assert read_metrics(run / "metrics.jsonl").steps[-1]["lr"] == 0.1


def test_a_safe_setting_can_be_given_as_an_option_with_allow_mismatch(run: Path) -> None:
    command = ["train", "--resume", run, "--max-steps", 5, "--lr", 0.5]
    message = fails(*command)
    assert message.startswith("--resume: --lr is fixed by the run")
    assert message.endswith("; add --allow-mismatch to change it all the same")
    assert "add --allow-mismatch" not in fails(*command[:-2], "--batch-size", 4)
    assert "--batch-size is fixed by the run" in fails(*command[:-2], "--batch-size", 4, "--allow-mismatch")
    works(*command, "--allow-mismatch")
    assert [step["lr"] for step in read_metrics(run / "metrics.jsonl").steps] == [0.002] * 3 + [0.5] * 2
    works("train", "--resume", run, "--max-steps", 6)
    assert from_toml(run / "config.toml")["lr"] == 0.5


def test_allow_mismatch_of_a_new_run_is_refused(tmp_path: Path, data: Path) -> None:
    message = fails(*train(tmp_path / "run", data, "--allow-mismatch"))
    assert message == "--allow-mismatch: a new run has no checkpoint to differ from; give it with --resume RUN"


def test_allow_mismatch_changes_nothing_where_nothing_differs(run: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(run, tmp_path / "whole")
    works("train", "--resume", run, "--max-steps", 6, "--allow-mismatch")
    works("train", "--resume", whole, "--max-steps", 6)
    assert weights(run, 5) == weights(whole, 5)


@pytest.mark.parametrize("more", [[], ["--decay-steps", 0]], ids=str)
def test_a_new_length_holds_even_if_the_run_stops_before_its_next_checkpoint(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, more: list[object]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("run", "whole"):
        begun = nanograd(*train(tmp_path / name, data, *COSINE, "--max-steps", 3, "--warmup-steps", 9))
        assert "the whole run, 3 updates, is warm-up" in begun.err
    run, whole = tmp_path / "run", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr("nanograd_gpt.cli.train.Run.steps", interrupted)
        assert nanograd("train", "--resume", run, "--max-steps", 6, *more).code == 130
        assert nanograd("train", "--resume", run, "--max-steps", 8, *more).code == 130
    works("train", "--resume", run)
    with monkeypatch.context() as patch:
        patch.setattr("nanograd_gpt.cli.train.Run.steps", lambda *_: iter(()))
        works("train", "--resume", whole, "--max-steps", 6, *more)
    works("train", "--resume", whole, "--max-steps", 8, *more)
    assert weights(run, 7) == weights(whole, 7)


def test_commands_that_read_a_run_use_the_checkpoints_settings_and_say_so(run: Path) -> None:
    whole = works("evaluate", run)
    edit(run, "train_ratio = 0.9", "train_ratio = 0.5")
    edit(run, "vocab_size", "vocab_size_")
    differs = f"note: {run / 'config.toml'} differs from {run / 'checkpoints' / 'step_2'}: "
    result = nanograd("evaluate", run)
    assert (result.code, result.out) == (0, whole)
    assert result.err.count("\n") == 2  # vocab_size is lacking, too
    assert "train_ratio: config.toml says 0.5, the checkpoint 0.9" in result.err
    assert differs in result.err
    assert differs in nanograd("info", run).err
    plotted = nanograd("plot", run)
    assert plotted.code == 0
    assert differs.removeprefix("note: ") in plotted.err
    assert plotted.err.count("\n") == 1
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "0.9" in page
    assert "vocab_size_" not in page
    works("generate", run, "--prompt", "the", "--max-new-tokens", 2)


# --- the text and the tokenizer


@pytest.mark.parametrize("how", ["in place", "--data", "config.toml"])
def test_another_text_is_refused_and_taken_with_allow_mismatch(run: Path, how: str) -> None:
    text = run.parent / "text.txt"
    other = text if how == "in place" else run.parent / "other.txt"
    other.write_text(text.read_text(encoding="utf-8").replace("sun", "moon"), encoding="utf-8")
    command = ["train", "--resume", run, "--max-steps", 6, *(["--data", other] if how == "--data" else [])]
    if how == "config.toml":
        edit(run, str(text), str(other))
    message = fails(*command)
    assert str(other) in message
    assert "--allow-mismatch" in message
    if how == "config.toml":
        assert f"data: config.toml says {str(other)!r}, the checkpoint {str(text)!r}" in message
    result = nanograd(*command, "--allow-mismatch")
    assert result.code == 0, result
    assert f"note: data: the text {str(other)!r} is not the one of {run / 'checkpoints' / 'step_2'}" in result.err
    state = read_state(run / "checkpoints" / "step_5")
    assert state["data_sha256"] == sha256(other.read_bytes()).hexdigest()
    assert state["settings"]["data"]["data"] == str(other)
    assert works("train", "--resume", run).startswith(f"{run} is complete")
    works("evaluate", run)


@pytest.mark.parametrize("more", [[], ["--allow-mismatch"]], ids=str)
def test_another_tokenizer_is_refused_always(run: Path, trained: Path, more: list[str], tmp_path: Path) -> None:
    works(*train(tmp_path / "other", run.parent / "text.txt", "--n-merges", 40, "--max-steps", 1))
    shutil.copy(tmp_path / "other" / "tokenizer.json", run)
    message = fails("train", "--resume", run, *more)
    assert "the tokenizer, of " in message
    assert "put back the run's tokenizer.json" in message


# --- the environment


def test_a_change_of_what_bits_may_depend_on_is_a_note(run: Path) -> None:
    change_state(run, lambda state: state["environment"].update(numpy="1.0", threads=77, device="cuda", cpus=1))
    result = nanograd("train", "--resume", run, "--max-steps", 4)
    assert result.code == 0
    assert result.err.startswith("note: since step_2: device cpu, was cuda; threads ")
    assert ", was 77; numpy " in result.err
    assert result.err.endswith(", was 1.0; the last bits of results may differ\n")
    works("train", "--resume", run, "--max-steps", 5)


@pytest.mark.parametrize("value", [None, [], "x", {}, {"numpy": None, "blas": {"a": [1]}, "threads": [[]]}], ids=str)
def test_a_damaged_record_of_the_environment_does_not_stop_a_run(run: Path, value: object) -> None:
    change_state(run, lambda state: state.update(environment=value))
    assert nanograd("train", "--resume", run, "--max-steps", 4).code == 0


# --- older checkpoints, and damaged ones


def test_a_run_whose_checkpoints_hold_no_settings_goes_on_and_has_them_from_then_on(run: Path) -> None:
    older(run)
    works("evaluate", run)
    works("info", run)
    works("train", "--resume", run, "--max-steps", 4)
    assert read_state(run / "checkpoints" / "step_3")["settings"]["training"]["max_steps"] == 4
    works("train", "--resume", run, "--max-steps", 5)


@pytest.mark.parametrize("damage", [empty, incomplete, cut, Path.unlink])
def test_a_run_whose_checkpoints_hold_no_settings_needs_its_config(run: Path, damage: Callable[[Path], None]) -> None:
    older(run)
    damage(run / "config.toml")
    for command in (["train", "--resume", run], ["train", "--resume", run, "--allow-mismatch"], ["evaluate", run]):
        message = fails(*command)
        assert message.startswith(f"config: {run / 'config.toml'} ")
        assert message.endswith("its checkpoints are of an older version and hold no settings, so restore the file")


@pytest.mark.parametrize("value", [None, 1, {}, {"data": {}}, {"data": 1, "training": {}}, "lr", "unknown"], ids=str)
def test_settings_that_are_damaged_in_a_checkpoint_are_refused(run: Path, value: object) -> None:
    def change(state: dict[str, Any]) -> None:
        if value == "lr":
            state["settings"]["training"]["lr"] = -1
        elif value == "unknown":
            state["settings"]["data"]["secret"] = 1
        else:
            state["settings"] = value

    change_state(run, change)
    message = fails("train", "--resume", run)
    assert "state.json: set" in message or "state.json: lr: -1.0" in message
    assert message.endswith("; use an earlier one")
