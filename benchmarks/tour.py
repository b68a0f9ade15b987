"""The five pictures of README's tour, each drawn by a deep dive in full.

    python benchmarks/tour.py [NAME ...]

Writes results/tour_*.svg, and results/tour.json (what each deep dive printed, seconds, environment), from which
`python benchmarks/readme.py` takes the numbers of the tour's sentences.  With names: only these, the others are kept.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from harness import Parser, run
from tour_parts import PICTURES

from nanograd_gpt.environment import environment

RESULTS = Path(__file__).parent / "results"
SCRIPTS = Path(__file__).parent.parent / "scripts"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the deep dives and keep their pictures; returns the first exit code that is not 0."""
    names = [picture.name for picture in PICTURES]
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="deep dives [all five]")
    chosen = parser.parse_args(argv).names or names
    file = RESULTS / "tour.json"
    facts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in chosen:
        with TemporaryDirectory() as folder:
            started = perf_counter()
            command = [sys.executable, str(SCRIPTS / f"{name}.py"), "--out", folder]
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
            if done.returncode:
                print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
                return done.returncode
            for picture in Path(folder).glob("*.svg"):
                shutil.copyfile(picture, RESULTS / f"tour_{picture.name}")
        printed = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
        seconds = round(perf_counter() - started, 1)
        facts[name] = {"seconds": seconds, "printed": printed, "environment": environment()}
        file.write_text(json.dumps({name: facts[name] for name in names if name in facts}, indent=1) + "\n", "utf-8")
        print(f"{name}: {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
