"""README's commands that start several processes do what README says, with small sizes and both hosts on this one."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from parallel.mpi import is_open_mpi, needs_mpi, run_ranks

from nanograd_gpt.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
SMALL = {"--emb-dim": "8", "--n-heads": "2", "--n-layers": "1", "--context-length": "8", "--n-merges": "4"}
MOST = ("--max-steps", "4", "--warmup-steps", "2")


@needs_mpi
def test_every_command_with_mpiexec_trains(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(
        "The wind went over the hill and the river went under it. " * 40, encoding="utf-8"
    )
    assert LINES
    for line in LINES:
        launcher, flag, size, *rest = shlex.split(line, comments=True)
        assert (launcher, flag) == ("mpiexec", "-n")
        start = rest.index("nanograd-gpt")
        hosts = ["-hosts", "localhost"] if "-hosts" in rest[:start] and not is_open_mpi() else []
        options = [*rest[start + 1 :]]
        if "--resume" not in options:
            options += [word for pair in SMALL.items() for word in pair] + [*MOST]
        else:
            options[options.index("--epochs") :] = ["--max-steps", "6"]
        done = run_ranks(int(size), [*hosts, sys.executable, "-m", "nanograd_gpt", *options], cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
        assert re.search(rf"^ranks       {size} on 1 host, ", done.stdout, re.MULTILINE)
    assert len(read_metrics(tmp_path / "runs/four/metrics.jsonl").steps) == 6
    assert (tmp_path / "runs/hosts/report.html").is_file()
