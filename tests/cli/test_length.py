"""nanograd-gpt train --resume with another length: its learning rate goes on as planned, and it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import COSINE, contents, fails, rate_line, train, works

from nanograd_gpt.training.config import from_toml
from nanograd_gpt.training.metrics import read_metrics


def rates_of(run: Path) -> list[float]:
    return [step["lr"] for step in read_metrics(run / "metrics.jsonl").steps]


@pytest.fixture
def cosine(tmp_path: Path, data: Path) -> Path:
    """A finished run whose rate fell to its minimum."""
    works(*train(tmp_path / "run", data, *COSINE))
    return tmp_path / "run"


def test_a_run_made_longer_keeps_its_rate_and_says_so(cosine: Path) -> None:
    planned = rates_of(cosine)
    n = len(planned)
    printed = works("train", "--resume", cosine, "--epochs", 3)
    total = n * 3 // 2
    assert rate_line(printed) == (
        f"from 0.0001 at update {n} to 0.0001 at update {total - 1}, as planned for {n} updates; "
        f"--decay-steps 0 stretches the plan over all {total}"
    )
    assert rates_of(cosine) == [*planned, *[0.0001] * (total - n)]


def test_a_run_made_longer_stretches_its_cosine_when_asked_and_says_how_far_the_rate_jumps(
    cosine: Path, data: Path, tmp_path: Path
) -> None:
    n = len(rates_of(cosine))
    printed = works("train", "--resume", cosine, "--epochs", 3, "--decay-steps", 0)
    works(*train(tmp_path / "whole", data, *COSINE, "--epochs", 3))
    planned, rates, whole = rates_of(cosine)[:n], rates_of(cosine), rates_of(tmp_path / "whole")
    assert rates[n:] == whole[n:]
    assert rates[n] > 10 * 0.0001
    assert rate_line(printed) == (
        f"from {whole[n]:.3g} at update {n} to {whole[-1]:.3g} at update {len(whole) - 1} "
        f"(last was {planned[-1]:.3g}, the old plan's next was 0.0001)"
    )


def test_a_dry_run_tells_the_rate_and_changes_nothing(cosine: Path) -> None:
    before = contents(cosine)
    printed = works("train", "--resume", cosine, "--epochs", 3, "--dry-run")
    assert (rate_line(printed) or "").startswith("from 0.0001 at update ")
    assert contents(cosine) == before


def test_a_changed_length_belongs_to_the_run_from_then_on(cosine: Path) -> None:
    n = len(rates_of(cosine))
    works("train", "--resume", cosine, "--epochs", 4, "--max-steps", n + 2)
    works("train", "--resume", cosine, "--max-steps", 0)
    assert len(rates_of(cosine)) == 2 * n
    settings = from_toml(cosine / "config.toml")
    assert (settings["epochs"], settings["max_steps"], settings["decay_steps"]) == (4, 0, n)
    assert [path.name for path in cosine.glob(".*")] == [".lock"]


def test_a_run_whose_rate_ended_at_0_does_not_go_on_at_0(tmp_path: Path, data: Path) -> None:
    works(*train(tmp_path / "run", data, *COSINE, "--min-lr", 0))
    n = len(rates_of(tmp_path / "run"))
    message = fails("train", "--resume", tmp_path / "run", "--epochs", 3)
    assert message.startswith(f"--resume: the learning rate falls to min_lr = 0 at update {n}")
    works("train", "--resume", tmp_path / "run", "--epochs", 3, "--decay-steps", 0)
    assert min(rates_of(tmp_path / "run")) > 0


def test_a_run_from_before_decay_steps_goes_on_as_planned(cosine: Path) -> None:
    config = cosine / "config.toml"
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    older = [line for line in lines if not line.startswith(("decay_steps", "initial_lr"))]
    assert len(older) == len(lines) - 2
    config.write_text("".join(older), encoding="utf-8")
    planned = rates_of(cosine)
    works("train", "--resume", cosine, "--epochs", 3)
    assert rates_of(cosine) == [*planned, *[0.0001] * (len(planned) // 2)]
