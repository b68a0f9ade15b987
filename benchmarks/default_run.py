"""The default `nanograd-gpt train` and `nanograd-gpt gradcheck`, for README.

    python benchmarks/default_run.py

Writes results/default_run.json (evaluations, samples, scores of tales, seconds, environment), results/default_run.svg
(its figure of those scores) and results/gradcheck.txt (the output of gradcheck); `python benchmarks/readme.py` inserts
them into README.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from harness import Parser, run

from nanograd_gpt.cli import main as nanograd_gpt
from nanograd_gpt.environment import environment
from nanograd_gpt.files import write_whole
from nanograd_gpt.training.metrics import read_metrics

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Run both commands; returns the first exit code that is not 0."""
    Parser(description=(__doc__ or "").splitlines()[0]).parse_args(argv)
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started, printed = perf_counter(), io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = nanograd_gpt(["train", "--out", str(run)])
        if code:
            return code
        seconds, metrics = perf_counter() - started, read_metrics(run / "metrics.jsonl")
        figure = (run / "figures" / "tales.svg").read_bytes()
    write_whole(RESULTS / "default_run.svg", figure)
    facts = {
        "header": [line for line in printed.getvalue().splitlines() if not line.startswith("directory")][:4],
        "seconds": round(seconds, 1),
        "evaluations": metrics.evaluations,
        "samples": metrics.samples,
        "tales": metrics.tales,
        "environment": environment(),
    }
    (RESULTS / "default_run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as checked:
        code = nanograd_gpt(["gradcheck"])
    _, table = checked.getvalue().split("\n", 1)  # the first line is a path on this machine
    (RESULTS / "gradcheck.txt").write_text(table, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(run(main))
