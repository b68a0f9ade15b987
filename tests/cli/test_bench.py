"""nanograd-gpt bench."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.commands import fails, nanograd, works
from cusim.checks import needs_compiler
from standin.cupy_standin import installed

from nanograd_gpt.bench.machine import Machine

VERY_SMALL = ["--n-layers", 1, "--emb-dim", 8, "--n-heads", 2, "--context-length", 8, "--vocab-size", 20]
QUICK = [*VERY_SMALL, "--batch-size", 2, "--seconds", 0, "--device", "cpu"]


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the measurement of the machine, which takes a second."""
    monkeypatch.setattr("nanograd_gpt.cli.bench.measured_machine", lambda device: Machine(2e11, 3e10))


def test_bench_tells_of_step_profile_generation_and_memory() -> None:
    printed = works("bench", *QUICK)
    assert printed.startswith("machine: cpu, 200 GFLOP/s in float32 matrix products, 30.0 GB/s of memory bandwidth\n")
    assert "\ntrain step: 1,248 parameters, batch 2 x 8\n" in printed
    for name in ("forward", "backward", "optimizer", "total", "prompt and first token", "each further token"):
        assert re.search(rf"^  {name} +[\d.,]+  +[\d.,]+ \.\. [\d.,]+$", printed, re.MULTILINE), name
    for line in (
        r"  linear_backward .* GFLOP/s .*%",
        r"  the engine's own Python +[\d.]+ +[\d.]+%",
        r"peak memory: .*",
    ):
        assert re.search(rf"^{line}", printed, re.MULTILINE), line


def test_bench_keeps_all_samples(tmp_path: Path) -> None:
    works("bench", *QUICK, "--out", tmp_path / "bench.json")
    facts = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert facts["model"]["emb_dim"] == 8
    assert len(facts["step"]) == len(facts["generation"]["per_token"]) == 3
    assert facts["profile"]["entries"]
    assert facts["environment"]["numpy"]


@pytest.mark.slow
@needs_compiler
def test_on_a_gpu_its_own_memory_and_precision_are_named() -> None:
    with installed():
        printed = works(
            "bench", *VERY_SMALL, "--batch-size", 2, "--seconds", 0, "--device", "cuda", "--precision", "tf32"
        )
    assert printed.startswith("machine: cuda, 200 GFLOP/s in TF32 matrix products, 30.0 GB/s of memory bandwidth\n")
    assert re.search(r"^GPU memory: \d+ MiB$", printed, re.MULTILINE)


def test_bench_does_not_overwrite_a_file(tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("mine", encoding="utf-8")
    assert fails("bench", *QUICK, "--out", text) == f"--out: {text} exists already; give a new name"
    assert text.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_short_context_is_enough(length: int) -> None:
    works("bench", *QUICK, "--context-length", length)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "-1"], "--seconds: -1.0 is not allowed"),
        (["--seconds", "nan"], "--seconds: nan is not allowed"),
        (["--seconds", "soon"], "nanograd-gpt bench: argument --seconds"),
        (["--out", "missing/bench.json"], "--out: missing/bench.json cannot be a file"),
        (["--out", "."], "--out: . cannot be a file"),
        (["--preset", "tniy"], "--preset: 'tniy' is unknown; did you mean 'tiny'?"),
        (["--n-heads", "3"], "--n-heads: 3 does not divide emb_dim = 8; choose 2 or 4, or emb_dim 6 or 9"),
        (["--device", "gpu"], "--device: 'gpu' is unknown"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused_in_one_line(options: list[str], message: str) -> None:
    assert fails("bench", *QUICK, *options).startswith(message)


def test_a_place_that_cannot_be_written_is_refused_before_measuring_and_a_link_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> Iterator[Any]:
        raise AssertionError("it was measured")

    monkeypatch.setattr("nanograd_gpt.cli.bench._measured", measured)
    with monkeypatch.context() as patch:
        patch.setattr("nanograd_gpt.cli.bench.TemporaryFile", denied)
        out = tmp_path / "out.json"
        assert fails("bench", "--out", out, code=1) == f"{out} could not be written (Permission denied)"
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "target.json")
    with pytest.raises(AssertionError, match="it was measured"):
        nanograd("bench", "--out", link)
    assert [*tmp_path.iterdir()] == [link]


def denied(**_: object) -> None:
    raise PermissionError(13, "Permission denied", "a name of its own")
