"""Start-up times: the import and `--help`, compared with Python alone, NumPy and PyTorch.

    python benchmarks/startup.py [--rounds N]

Goes to results/startup.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from harness import ROOT, new_parser, parsed, run, write

from nanograd_gpt.bench.statistics import interleaved, summary

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import nanograd_gpt": ["-c", "import nanograd_gpt"],
    "nanograd-gpt --help": ["-m", "nanograd_gpt", "--help"],
    "import torch": ["-c", "import torch"],
}


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=11), argv, "torch")
    for name in COMMANDS:
        seconds(name)  # fills the disk cache
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for order in interleaved(list(COMMANDS), options.rounds):
        for name in order:
            samples[name].append(seconds(name))
    for name, taken in samples.items():
        print(f"  {name:<22} {1e3 * summary(taken).median:8.0f} ms")
    write(options, "startup.json", {"samples": samples})
    return 0


def seconds(name: str) -> float:
    """The time from the start of a process to its end."""
    start = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *COMMANDS[name]], check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run(main))
