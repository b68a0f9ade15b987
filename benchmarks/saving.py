"""The part of `train`'s time that checkpoints take.

    python benchmarks/saving.py [--only NAME] [--seconds N]

The default run, and eight minutes of the 124M model, each in a process of its own.  In the loop: the seconds of copying
the best weights, of writing arrays, of waiting for an earlier checkpoint.  Beside it: the CPU seconds of the thread
that hashes and flushes, at most what updates lose to it.  Goes to results/saving.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer, current_thread, main_thread
from time import perf_counter, thread_time
from typing import Any

from harness import ROOT, new_parser, parsed, run, write

from nanograd_gpt import cli
from nanograd_gpt.training.background import Background
from nanograd_gpt.training.metrics import read_metrics
from nanograd_gpt.training.run import Run

RUNS = {"default run": [], "124M": ["--preset", "gpt2-124m", "--epochs", "1000"]}
SECONDS = 480  # of the 124M run
STOPPED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__, rounds=1)
    parser.add_argument("--only", choices=RUNS, help="one run; the other keeps its stored result")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="when a run is stopped [%(default)s]")
    options = parsed(parser, argv)
    chosen = RUNS if options.only is None else {options.only: RUNS[options.only]}
    stored = options.out / "saving.json"
    before = json.loads(stored.read_text(encoding="utf-8"))["runs"] if options.only and stored.exists() else {}
    found = {name: measured(settings, options) for name, settings in chosen.items()}
    for name, costs in found.items():
        parts = f"{costs['in_loop']:.2f} s in the loop, {costs['beside']:.2f} s beside it"
        print(f"  {name}: {costs['saves']} checkpoints in {costs['seconds']:.0f} s; {parts}: {share(costs):.1%}")
    runs = before | found
    write(options, "saving.json", {"runs": {name: runs[name] for name in RUNS if name in runs}})
    return 0


def share(costs: dict[str, Any]) -> float:
    return float((costs["in_loop"] + costs["beside"]) / costs["seconds"])


def measured(settings: list[str], options: Namespace) -> dict[str, Any]:
    """The cost of saving in one run, in a fresh process."""
    with TemporaryDirectory() as folder:
        child = [sys.executable, __file__, "--child", str(options.seconds), "train", "--out", f"{folder}/run"]
        more = ["--threads", str(options.threads), *(["--max-steps", "4"] if options.quick else [])]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run([*child, *settings, *more], check=False, stdout=sys.stderr, env=variables)
        if done.returncode not in (0, STOPPED):
            raise SystemExit(done.returncode)
        costs: dict[str, Any] = json.loads(Path(folder, "costs.json").read_text(encoding="utf-8"))
        end = read_metrics(Path(folder, "run", "metrics.jsonl")).end
        assert end is not None
        return {"settings": settings, **costs, "seconds": end["seconds"]}


def child(seconds: str, argv: list[str]) -> int:
    """Train, stopped by a signal after so many seconds; write the costs beside the run."""
    costs = {"saves": 0, "in_loop": 0.0, "beside": 0.0}
    in_loop = (Run, "save"), (Run, "save_best"), (Run, "keep_best"), (Background, "wait")
    for timing, methods in ((timed, in_loop), (timed_beside, [(Run, "_seal")])):
        for owner, name in methods:
            setattr(owner, name, timing(getattr(owner, name), costs))
    timer = Timer(float(seconds), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    code = cli.main(argv)
    Path(argv[argv.index("--out") + 1]).with_name("costs.json").write_text(json.dumps(costs), encoding="utf-8")
    return code


def timed(function: Callable[..., Any], costs: dict[str, Any]) -> Callable[..., Any]:
    """Add the seconds of each outermost call."""

    @wraps(function)
    def call(*args: Any) -> Any:
        if costs.get("within"):
            return function(*args)
        begun, costs["within"] = perf_counter(), True
        try:
            return function(*args)
        finally:
            del costs["within"]
            costs["in_loop"] += perf_counter() - begun
            costs["saves"] += function.__name__ == "save"

    return call


def timed_beside(seal: Callable[..., None], costs: dict[str, Any]) -> Callable[..., None]:
    """Add the CPU seconds of each call in a thread; one in the loop is counted there."""

    @wraps(seal)
    def call(*args: Any) -> None:
        begun = thread_time()
        seal(*args)
        if current_thread() is not main_thread():
            costs["beside"] += thread_time() - begun

    return call


if __name__ == "__main__":
    sys.exit(child(sys.argv[2], sys.argv[3:]) if sys.argv[1:2] == ["--child"] else run(main))
