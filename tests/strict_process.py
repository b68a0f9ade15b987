"""Arguments for a Python process in which a warning about our code is an error, as in pytest's own process.

`python -W error` would make errors of the warnings of libraries too, and -W cannot name a package with its modules.
"""

from __future__ import annotations

import sys
from pathlib import Path

OURS = "(nanograd_gpt|__main__|_deep_dive|_one_line|_attention_steps|_steps_page|speed_)"
FILTER = f"import warnings; warnings.filterwarnings('error', module={OURS!r})\n"
RUN_FILE = """import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_code(code: str, *arguments: object) -> list[str]:
    """A command that runs code, with its arguments in sys.argv[1:]."""
    return [sys.executable, "-c", FILTER + code, *map(str, arguments)]


def run_file(path: Path, *arguments: object) -> list[str]:
    """A command that runs a script."""
    return run_code(RUN_FILE, path, *arguments)
