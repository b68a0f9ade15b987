"""Memory and time that `train` expects, against what it then takes, for several configurations.

    python benchmarks/estimates.py [--only NAME]

Each run is a process of its own with one thread.  Memory is the peak resident memory of the process; time is the CPU
time of the training loop, since other processes hardly disturb it, and the estimate is timed in the same way.  Goes to
results/estimates.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from harness import ROOT, new_parser, parsed, run, write

from nanograd_gpt import cli
from nanograd_gpt.bench import estimate, expected
from nanograd_gpt.bench.machine import peak_memory
from nanograd_gpt.cli import header, train

LONG = ["--context-length", "1024", "--emb-dim", "64", "--n-heads", "4", "--n-layers", "2", "--batch-size", "2"]
CONFIGURATIONS = {
    "tiny": ["--epochs", "6"],
    "tiny, batch 32": ["--batch-size", "32", "--epochs", "10", "--train-ratio", "0.8", "--eval-freq", "5"],
    "tiny, without dropout": ["--drop-rate", "0", "--epochs", "6"],
    "6 layers x 192, context 128": ["--n-layers", "6", "--emb-dim", "192", "--n-heads", "6", "--context-length", "128",
                                    "--batch-size", "4", "--epochs", "4"],
    "2 layers x 512": ["--n-layers", "2", "--emb-dim", "512", "--n-heads", "8", "--epochs", "3"],
    "2 layers x 64, context 1024": [*LONG, "--n-merges", "0", "--epochs", "5"],
    "gpt2-124m, batch 2 x 256": ["--preset", "gpt2-124m", "--max-steps", "7"],
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=1)
    parser.add_argument("--only", choices=CONFIGURATIONS, help="one configuration; others keep their stored result")
    options = parsed(parser, argv)
    options.threads = 1
    chosen = CONFIGURATIONS if options.only is None else {options.only: CONFIGURATIONS[options.only]}
    stored = options.out / "estimates.json"
    before = json.loads(stored.read_text(encoding="utf-8"))["runs"] if options.only and stored.exists() else {}
    found = {name: measured(settings, options.quick) for name, settings in chosen.items()}
    for name, result in found.items():
        print(f"  {name:<30} {ratios(result)}")
    runs = before | found
    write(options, "estimates.json", {"runs": {name: runs[name] for name in CONFIGURATIONS if name in runs}})
    return 0


def measured(settings: list[str], quick: bool) -> dict[str, Any]:
    """The expectation and the measurement of one run, in a fresh process."""
    with TemporaryDirectory() as folder:
        base = [] if "--preset" in settings else ["--preset", "tiny"]
        own = [*base, "--out", f"{folder}/run", "--threads", "1", *settings]
        command = [sys.executable, __file__, "--child", "train", *own]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        more = ["--max-steps", "1"] if quick else []
        subprocess.run([*command, *more], check=True, stdout=sys.stderr, env={**os.environ, "PYTHONPATH": path})
        facts: dict[str, Any] = json.loads(Path(folder, "facts.json").read_text(encoding="utf-8"))
        lines = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return {"settings": settings, **facts, "seconds": json.loads(lines[-1])["seconds"]}


def ratios(run: dict[str, Any]) -> str:
    memory, seconds = run["expected_bytes"] / run["peak_bytes"], run["expected_seconds"] / run["seconds"]
    return f"memory {run['expected_bytes'] / 2**20:6.0f} MiB, {memory:.2f} of what was measured; time {seconds:.2f}"


def child(argv: list[str]) -> int:
    """Train with a CPU clock; write what was expected, and the peak memory, beside the run."""
    facts: dict[str, Any] = {}

    def noted(*args: Any, **named: Any) -> expected.Expected:
        found = expected.expected_of(*args, **named)
        facts.update(expected_bytes=found.memory, expected_seconds=found.seconds)
        return found

    for module in (estimate, train):
        replace(module, "perf_counter", time.process_time)  # one clock for the estimate and the training
    replace(header, "expected_of", noted)
    code = cli.main(argv)
    facts["peak_bytes"] = peak_memory()
    Path(argv[argv.index("--out") + 1]).with_name("facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return code


def replace(module: ModuleType, name: str, value: Any) -> None:
    """Assign to a name that a module has, or raise AttributeError where it has moved."""
    getattr(module, name)
    setattr(module, name, value)


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else run(main))
