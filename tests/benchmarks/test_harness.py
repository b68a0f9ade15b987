"""Contenders run in turn, each in a separate process, and are timed only if they agree."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
import train_step
from setups import Setup

from nanograd_gpt.gpt.config import GPTConfig

TINY = Setup(GPTConfig(vocab_size=31, context_length=8, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.1), 2, 8)

FAKE = """
import json, sys
losses = {losses}
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == "fail":
        raise SystemExit("no such luck")
    answer = {{"check": {{"losses": losses}}, "steps": {{"total": {seconds}}}, "quit": {{"versions": {{}}}}}}
    print(json.dumps(answer.get(do, {{}})), flush=True)
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of contenders that answer immediately: ours, one that agrees, one that does not."""
    for name, losses, seconds in (
        ("ours", [2.0, 1.0], 0.5),
        ("same", [2.0, 1.00005], 1.0),
        ("other", [2.0, 1.001], 1.0),
    ):
        (tmp_path / f"{name}.py").write_text(FAKE.format(losses=losses, seconds=seconds), encoding="utf-8")
    monkeypatch.setattr(harness, "CONTENDERS", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("fakes")
def test_contenders_that_agree_are_timed() -> None:
    facts = train_step.compared(TINY, ["ours", "same"], 3, 1)
    assert facts["losses"] == {"ours": [2.0, 1.0], "same": [2.0, 1.00005]}
    assert facts["samples"] == {"ours": [{"total": 0.5}] * 3, "same": [{"total": 1.0}] * 3}
    assert facts["too_noisy"] is False
    assert facts["failures"] == {}


@pytest.mark.usefixtures("fakes")
def test_contenders_whose_losses_disagree_are_not() -> None:
    """A contender that disagrees only after an update."""
    with pytest.raises(harness.DisagreementError, match=r"ours has 2.000000, 1.000000, other 2.000000, 1.001000"):
        train_step.compared(TINY, ["ours", "other"], 3, 1, with_itself=False)


def test_one_that_fails_is_noted_and_left_out(fakes: Path) -> None:
    (fakes / "broken.py").write_text("input(); raise RuntimeError('no compiler here')", encoding="utf-8")
    facts = train_step.compared(TINY, ["ours", "broken"], 2, 1, with_itself=False)
    assert facts["failures"] == {"broken": "broken: prepare failed: RuntimeError: no compiler here"}
    assert list(facts["samples"]) == ["ours"]


def test_one_whose_losses_are_not_numbers_is_noted_and_left_out(fakes: Path) -> None:
    (fakes / "nan.py").write_text(FAKE.format(losses='[float("nan"), 1.0]', seconds=1.0), encoding="utf-8")
    facts = train_step.compared(TINY, ["ours", "nan"], 2, 1, with_itself=False)
    assert facts["failures"] == {"nan": "nan: its losses are nan, 1.0"}
    assert list(facts["samples"]) == list(facts["losses"]) == ["ours"]


def test_ours_may_not_fail(fakes: Path) -> None:
    (fakes / "ours.py").write_text("raise SystemExit('broken')", encoding="utf-8")
    with pytest.raises(harness.ContenderError, match="ours: prepare failed: broken"):
        train_step.compared(TINY, ["ours", "same"], 2, 1, with_itself=False)


@pytest.mark.parametrize(("seconds", "steps"), [([0.01, 0.04], 13), ([3.0, 0.1], 1)])
def test_a_sample_is_long_for_the_slowest_contender(seconds: list[float], steps: int) -> None:
    class Asked:
        def __init__(self, total: float) -> None:
            self.total = total

        def ask(self, do: str, n: int) -> dict[str, float]:
            assert (do, n) == ("steps", 1)
            return {"total": self.total}

    assert harness.steps_a_sample(dict(zip("AB", map(Asked, seconds), strict=True))) == steps


@pytest.mark.usefixtures("fakes")
def test_all_have_the_same_threads_and_the_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = harness.subprocess.Popen

    def watched(*args: object, **options: object) -> object:
        started.append(options["env"])
        return popen(*args, **options)

    monkeypatch.setattr(harness.subprocess, "Popen", watched)
    with harness.contenders(["ours", "ours again", "same"], threads=3) as running:
        processes = [contender.process for contender in running.values()]
    assert [process.poll() is None for process in processes] == [False] * 3
    assert [[env[name] for name in harness.THREAD_VARIABLES] for env in started] == [["3"] * 4] * 3


def test_without_avx512_no_library_of_a_contender_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in harness.without_avx512():
        monkeypatch.setenv(name, "")  # undone after the test
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    options = harness.parsed(harness.new_parser("About", 1), ["--avx2", "--out", str(tmp_path)])
    assert options.out == tmp_path / "avx2"
    ask = (
        "import numpy as np, threadpoolctl as t;"
        "print(np.show_config(mode='dicts')['SIMD Extensions']['found'],"
        "[x.get('architecture') for x in t.threadpool_info()])"
    )
    printed = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert not any(name in printed for name in (*harness.BEYOND_AVX2, "SkylakeX", "SapphireRapids", "Cooperlake"))


def test_turns_are_taken_there_and_back() -> None:
    asked: list[str] = []

    class Asked:
        def __init__(self, name: str) -> None:
            self.name = name

        def ask(self, do: str, n: int) -> dict[str, float]:
            asked.append(self.name)
            return {"total": float(len(asked)), "n": n}

    samples = harness.take_turns({name: Asked(name) for name in "AB"}, 3, "steps", pause=0, n=4)
    assert "".join(asked) == "ABBAAB"
    assert samples["A"] == [{"total": 1.0, "n": 4}, {"total": 4.0, "n": 4}, {"total": 5.0, "n": 4}]


# --- the real ones


@pytest.fixture(scope="module")
def weights() -> Iterator[str]:
    with harness.weights_of(TINY) as path:
        yield path


def needed(*libraries: str) -> None:
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library}, a contender's library, is not installed")


def test_ours_answers_all_it_can_be_asked(weights: str) -> None:
    with harness.contenders(["ours"], threads=1) as running:
        ours = running["ours"]
        ours.ask("prepare", config=TINY.config.to_dict(), weights=weights, batches=TINY.batches())
        before, after = ours.ask("check")["losses"]
        assert after < before
        assert ours.ask("check")["losses"] == [before, after]  # a check does not change the state
        seconds = ours.ask("steps", n=2)
        assert seconds["total"] == pytest.approx(sum(seconds[p] for p in ("forward", "backward", "optimizer")))
        assert len(ours.ask("logits", ids=[1, 2])["logits"]) == 31
        assert ours.ask("generate", ids=[1, 2], n=3)["ids"][:2] == [1, 2]
        assert 2 < ours.ask("evaluate")["loss"] < 5
        end = ours.ask("quit")
        assert end["peak_memory"] > 2**20
        assert set(end["versions"]) == {"numpy"}


@pytest.mark.slow
def test_the_contenders_in_pytorch_compute_what_we_do(weights: str) -> None:
    needed("torch")
    with harness.contenders(["ours", "document", "best"], threads=1) as running:
        losses = train_step.ready(running, TINY, weights, {"failures": {}})
        assert set(losses) == {"ours", "document", "best"}
        texts = [running[name].ask("generate", ids=[1, 2], n=4)["ids"] for name in ("ours", "document")]
        assert texts[0] == texts[1]


@pytest.mark.slow
def test_hugging_faces_model_computes_what_we_do(weights: str) -> None:
    needed("torch", "transformers")
    with harness.contenders(["ours", "huggingface"], threads=1) as running:
        for contender in running.values():
            contender.ask("prepare", config=TINY.config.to_dict(), weights=weights, batches=[])
        logits = {name: contender.ask("logits", ids=[1, 2, 3])["logits"] for name, contender in running.items()}
        harness.agree(logits, 1e-5)
        texts = [contender.ask("generate", ids=[1, 2, 3], n=4)["ids"] for contender in running.values()]
        assert texts[0] == texts[1]


def test_a_result_says_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = harness.new_parser("Something.", rounds=3).parse_args(["--out", str(tmp_path), "--threads", "2"])
    harness.write(options, "something.json", {"samples": [1]})
    facts = json.loads((tmp_path / "something.json").read_text(encoding="utf-8"))
    assert (facts["samples"], facts["threads"], facts["quick"]) == ([1], 2, False)
    assert {"processor", "numpy", "blas", "cpus"} <= set(facts["environment"])
    assert capsys.readouterr().out == f"wrote {tmp_path / 'something.json'}\n"
