"""A run finds its text again: from another folder, after a move, or by --data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.commands import TEXT, fails, train, works

from nanograd_gpt.training.config import from_toml

ODD_NAMES = [
    "a \"quoted\" 'name'\nline #1.txt",
    "back\\slash%20 ünïcode 文\x7f.txt",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which contains a text, next to another directory."""
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def trained(data: str | Path = "text.txt", *more: object) -> None:
    works(*train(Path("run"), Path(data), "--max-steps", 1, *more))


def goes_on(run: Path | str, *more: object) -> None:
    assert "checkpoints/step_0" in works("train", "--resume", run, "--max-steps", 2, *more)


@pytest.mark.parametrize("name", ["text.txt", *(pytest.param(name, marks=pytest.mark.slow) for name in ODD_NAMES)])
def test_a_relative_path_is_found_from_another_folder(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "text.txt").rename(project / name)
    trained(name)
    monkeypatch.chdir(project.parent / "elsewhere")
    works("evaluate", "--model", project / "run")
    works("plot", project / "run")
    goes_on("../project/run")


def test_a_text_moved_together_with_its_run_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained()
    monkeypatch.chdir(project.parent)
    moved = project.rename(project.parent / "moved")
    goes_on(moved / "run")
    works("evaluate", "--model", moved / "run")


def test_a_run_moved_away_from_its_text_finds_it(project: Path) -> None:
    trained()
    shutil.move("run", "../elsewhere/deep")
    goes_on("../elsewhere/deep")


def test_a_run_of_which_only_a_relative_path_is_known_finds_it_in_a_folder_above(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    config, facts = project / "run" / "config.toml", project / "run" / "environment.json"
    config.write_text(config.read_text(encoding="utf-8").replace(str(project / "text.txt"), "text.txt"), "utf-8")
    assert from_toml(config)["data"] == "text.txt"
    facts.unlink()
    monkeypatch.chdir(project.parent / "elsewhere")
    Path("text.txt").write_text("another text with the same name, nearer than the right one", encoding="utf-8")
    goes_on(project / "run")


def test_data_says_where_the_text_is_now_and_it_is_remembered(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained()
    (project / "text.txt").rename(project / "renamed.txt")
    for command in (["train", "--resume", "run"], ["evaluate", "--model", "run"]):
        message = fails(*command)
        assert "text.txt" in message
        assert "--data" in message
    goes_on("run", "--data", "renamed.txt")
    monkeypatch.chdir(project.parent / "elsewhere")
    goes_on_again = works("train", "--resume", project / "run", "--max-steps", 3)
    assert "checkpoints/step_1" in goes_on_again
    assert from_toml(project / "run" / "config.toml")["max_steps"] == 3, "its length from now on"


@pytest.mark.parametrize("other", ["a text that the run has never seen, of some words and more", None])
def test_another_text_is_refused(project: Path, other: str | None) -> None:
    trained()
    before = (project / "run" / "config.toml").read_bytes()
    if other is not None:
        (project / "other.txt").write_text(other, encoding="utf-8")
    message = fails("train", "--resume", "run", "--data", "other.txt")
    assert "other.txt" in message
    assert ("is not the text that run was trained on" if other else "does not exist") in message
    assert (project / "run" / "config.toml").read_bytes() == before


def test_a_text_in_the_home_folder_and_a_link_are_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / "link.txt").symlink_to(project / "text.txt")
    trained("~/link.txt")
    assert from_toml(Path("run/config.toml"))["data"] == str(project / "link.txt")
    monkeypatch.chdir(project.parent / "elsewhere")
    goes_on("~/run")
    works("evaluate", "--model", "~/run")


def test_a_runs_config_means_the_same_in_another_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained()
    monkeypatch.chdir(project.parent / "elsewhere")
    works("train", "--config", "../project/run/config.toml", "--out", "again")
    for name in ("run", "elsewhere/again"):
        assert from_toml(project.parent / ("project" if name == "run" else "") / name / "config.toml")["data"] == str(
            project / "text.txt"
        )


def test_a_fine_tuning_from_a_relative_path_goes_on_elsewhere_without_its_source(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    works("train", "--weights", "run", "--data", "text.txt", "--out", "tuned", "--max-steps", 1, "--batch-size", 2)
    assert from_toml(Path("tuned/config.toml"))["weights"] == str(project / "run")
    shutil.rmtree("run")
    monkeypatch.chdir(project.parent / "elsewhere")
    goes_on(project / "tuned")


def test_a_name_that_is_a_setting_stays_one_where_a_file_has_it_too(project: Path) -> None:
    for name in ("own", "tales"):
        (project / name).write_text(TEXT, encoding="utf-8")
    works("train", "--max-steps", 1, "--warmup-steps", 0, "--out", "run", "--batch-size", 2, "--n-layers", 1)
    settings = from_toml(Path("run/config.toml"))
    assert (settings["data"], settings["tokenizer"], settings["weights"]) == ("tales", "own", "")
    goes_on("run", "--data", "tales")


def test_the_text_of_a_run_from_before_decay_steps_may_have_moved_as_its_length_changes(project: Path) -> None:
    cosine = "--schedule", "cosine", "--warmup-steps", 1, "--min-lr", 1e-4
    works(*train(Path("run"), Path("text.txt"), "--max-steps", 4, *cosine))
    config = project / "run" / "config.toml"
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("decay_steps")), encoding="utf-8")
    (project / "text.txt").rename(project / "renamed.txt")
    works("train", "--resume", "run", "--data", "renamed.txt", "--max-steps", 6)
    assert from_toml(config)["decay_steps"] == 4
