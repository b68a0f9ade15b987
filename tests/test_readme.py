"""README's commands and examples do what README says, in a fresh clone and a virtual environment of their own.

Long trainings are cut short, as the table below says; everything else runs as it stands, with the network off.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import nanograd_gpt as ng
from nanograd_gpt.cli.main import _parsers
from nanograd_gpt.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

FIRST = "--max-steps 751 --decay-steps 2802"  # are added to the first command: the learning rates of the whole run
# README's commands that would train for long, and the options that are added to them here.
CUT_SHORT = {
    "train --data mine.txt --out": "--max-steps 2",
    "train --data mine.txt --decay": "--max-steps 2",
    "train --data story": "--max-steps 2 --warmup-steps 1",
    "train --preset gpt2-124m --vocab-size 50304": "--dry-run",
    "train --resume runs/tales --epochs 9": "--max-steps 752",
    "train --resume runs/tales --epochs 12": "--max-steps 753",
    "train --resume runs/mine": "--max-steps 3",
    "train --init-from DIRECTORY": "--max-steps 2",
    "bench": "--seconds 0",
}
NEEDS_THE_NETWORK = "nanograd-gpt generate gpt2 "
OFFLINE = dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], "http://127.0.0.1:9")


def blocks(language: str) -> list[str]:
    """README's blocks of a language, without the one that runs this test."""
    found = re.findall(rf"(<!-- test command -->\n)?```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [block for test_command, block in found if not test_command]


def commands() -> list[str]:
    """README's commands, a line each, without the first block, which installs the package."""
    return [line for block in blocks("bash")[1:] for line in block.splitlines()]


# --- without running anything

OPTIONS = {
    name: {option for action in parser._actions for option in action.option_strings}
    for name, parser in _parsers()[1].items()
}


@pytest.mark.parametrize("line", commands())
def test_every_command_and_option_in_a_block_exists(line: str) -> None:
    program, command, *arguments = shlex.split(line, comments=True)
    assert program == "nanograd-gpt"
    assert {word for word in arguments if word.startswith("--")} <= OPTIONS[command]


def test_every_command_and_option_named_in_the_text_exists() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py"))
    known = {option for options in OPTIONS.values() for option in options}
    known |= {"--learning-rate", "--n-embd", *re.findall(r'"(--[a-z-]+)"', scripts)}
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))
    words = [word.rstrip(".,") for span in spans for word in span.split()]
    assert {word for word in words if word.startswith("--")} - known == set()
    named = [span.split()[1] for span in spans if span.startswith("nanograd-gpt ")]
    assert set(named) <= {*OPTIONS, "help"}


# --- in a fresh clone


class Clone:
    """A copy of the project's files in which README's first block has been run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, path / name)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NANOGRAD", "VIRTUAL"))}
        self.environment["XDG_CACHE_HOME"] = str(path / "cache")
        self.printed = ""  # by the first block

    def run(self, script: str, env: Mapping[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.path,
            env={**self.environment, **env},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def offline(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(f"source .venv/bin/activate\n{script}", OFFLINE, stdin)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    if not (ROOT / ".git").exists() or shutil.which("bash") is None or shutil.which("git") is None:
        pytest.skip("needs git, bash and a clone")
    clone = Clone(tmp_path_factory.mktemp("clone"))
    install, train = blocks("bash")[0].strip().rsplit(" && ", 1)
    installed = clone.run(install, {})
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip("no package index can be reached")
    assert (installed.returncode, installed.stdout) == (0, ""), installed.stderr
    trained = clone.offline(f"{train} {FIRST}")
    assert trained.returncode == 0, trained.stderr
    clone.printed = trained.stdout
    (clone.path / "mine.txt").write_text("The wind went over the hill and the river went under it. " * 200)
    config = ng.GPTConfig(context_length=160, emb_dim=16, n_heads=2, n_layers=1, qkv_bias=True, tied_head=True)
    ng.save_pretrained(clone.path / "DIRECTORY", ng.GPTModel(config), ng.get_tokenizer("gpt2"))
    yield clone
    shutil.rmtree(clone.path)


@pytest.mark.slow
def test_the_first_block_prints_the_losses_that_readme_shows(clone: Clone) -> None:
    """To all digits at the first step; later, other kernels of BLAS and their roundings lead a little elsewhere."""
    shown = re.search(r"<!-- begin default run -->\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    pattern = re.compile(r"^Ep (\d+) \(Step (\d+)\): Train loss ([\d.]+), Val loss ([\d.]+)$", re.MULTILINE)
    printed = {match[2]: match for match in pattern.finditer(clone.printed)}
    lines = [*pattern.finditer(shown[1])]
    reached = [line for line in lines if line[2] in printed]
    assert len(reached) >= 2
    for line in reached:
        own = printed[line[2]]
        tolerance = 0.0011 if int(line[2]) == 0 else 0.1
        assert own[1] == line[1]
        assert float(own[3]) == pytest.approx(float(line[3]), abs=tolerance)
        assert float(own[4]) == pytest.approx(float(line[4]), abs=tolerance)
    assert re.search(r"^50 tales by the model: .* sentences are grammatical", clone.printed, re.MULTILINE)
    header = shown[1].splitlines()[:2]
    assert [line for line in header if line not in clone.printed] == []


@pytest.mark.slow
def test_every_command_in_its_order_does_what_readme_says(clone: Clone) -> None:
    for line in commands():
        if " moved/mine.txt" in line:
            (clone.path / "moved").mkdir()
            (clone.path / "mine.txt").rename(clone.path / "moved" / "mine.txt")
        command = line.split(" #")[0].rstrip()
        [added] = [more for start, more in CUT_SHORT.items() if command.startswith(f"nanograd-gpt {start}")] or [""]
        done = clone.offline(f"{command} {added}", stdin="Once Ben was\n")
        if command.startswith(NEEDS_THE_NETWORK):
            assert done.returncode == 1, done
            assert re.match(r"error: .*\bgpt2\b.*\n$", done.stderr), done
        else:
            assert done.returncode == 0, done
            assert len(done.stdout.split()) >= (10 if " generate " in command else 3), done  # worth reading
            assert "Traceback" not in done.stderr
        if " moved/mine.txt" in line:
            (clone.path / "moved" / "mine.txt").rename(clone.path / "mine.txt")
    assert len(read_metrics(clone.path / "runs/tales/metrics.jsonl").steps) == 753


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_every_python_block_runs(clone: Clone, number: int) -> None:
    story = (ROOT / "nanograd_gpt/assets/story.txt").read_text(encoding="utf-8")
    (clone.path / "the-verdict.txt").write_text(story[:12_000], encoding="utf-8")  # with a window to validate
    block = blocks("python")[number].replace("num_epochs=10", "num_epochs=2")
    small = "import nanograd_gpt as ng\nng.GPT_CONFIG_124M = {**ng.GPT_CONFIG_124M, 'emb_dim': 12, 'n_layers': 1}\n"
    (clone.path / "block.py").write_text(small + block, encoding="utf-8")
    done = clone.offline("python block.py")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.strip()
