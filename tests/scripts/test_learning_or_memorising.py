"""The claims of scripts/learning_or_memorising.py fail for models that were hardly trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads

SCRIPT = Path(__file__).parents[2] / "scripts" / "learning_or_memorising.py"
CLAIMS = (
    "the story is memorised",
    "the rules are learned",
    "are grammatical",
    "are consistent",
    "grammar is",
    "are copies",
)


def replaced(source: str, right: str, wrong: str) -> str:
    assert source.count(right) == 1
    return source.replace(right, wrong)


def test_each_claim_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    source = SCRIPT.read_text(encoding="utf-8")
    source = replaced(source, '"epochs": 16}', '"max_steps": 3, "warmup_steps": 1}')
    source = replaced(source, '["eval_freq"] = 50', ' |= {"max_steps": 3, "warmup_steps": 1, "emb_dim": 16}')
    source = replaced(source, "SAME = 0.1 ", "SAME = 0.0 ")
    source = replaced(source, '"copies": 20}', '"copies": -1}')
    module = {"__name__": "script", "__doc__": "A deep dive."}
    exec(compile(source, SCRIPT.name, "exec"), module)
    threads = n_threads()
    with pytest.raises(SystemExit, match="1"):
        module["main"](["--fast", "--out", str(tmp_path)])  # type: ignore[operator]  # a function of the script
    set_threads(threads)
    failed = [line for line in capsys.readouterr().out.splitlines() if "[FAILS]" in line]
    assert len(failed) == len(CLAIMS)
    assert all(claim in line for claim, line in zip(CLAIMS, failed, strict=True))
