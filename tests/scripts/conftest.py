"""Make the files in scripts/ and benchmarks/ importable, as when one of them is run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2] / name) for name in ("scripts", "benchmarks")]
