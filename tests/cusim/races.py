"""Data races in a launch, found by ThreadSanitizer: also those that no thread order shows in the result.

Each CUDA thread is a fiber of its own; barriers, warp exchanges and fences are what orders them.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from . import compiler
from .errors import SimulatorError
from .memory import ALIGNMENT, HostArray
from .simulator import Launch, number, settings
from .translate import INCLUDE

# No wait of a second for threads that may still run; and the most that it remembers of each fiber's past.
OPTIONS = "report_thread_leaks=0 atexit_sleep_ms=0 history_size=7"
TWINS = {path.name for path in INCLUDE.iterdir()}
RACE, FOUND = 66, re.compile(r"#\d+ .*?(?:^|[ /])([\w-]+\.cuh?):(\d+)")


def races(launch: Launch) -> list[str]:
    """The races of a launch, each as the lines of its two accesses: 'norm.cu line 31 and norm.cu line 40'.

    Raises SimulatorError where the launch itself fails.
    """
    program = compiler.watched_program(launch.function.module.text())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "launch")
        file.write_bytes(_serialised(launch))
        done = subprocess.run(
            compiler.without_random_addresses(program, file),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TSAN_OPTIONS": f"exitcode={RACE} {OPTIONS}"},
        )
    if done.returncode == RACE:
        return _reports(done.stderr)
    if done.returncode:
        raise SimulatorError(f"kernel {launch.function.name}: {done.stderr.strip()[-500:]}")
    return []


def _reports(output: str) -> list[str]:
    """Each report's two places: in either stack the first line of a .cu or .cuh that is not the simulator's."""
    found = []
    for report in output.split("WARNING: ThreadSanitizer")[1:]:
        stacks = [FOUND.findall(stack) for stack in report.split("\n\n")[:2]]
        places = [[(file, int(line)) for file, line in stack if file not in TWINS] for stack in stacks]
        firsts = sorted(place[0] for place in places if place)
        found.append(" and ".join(f"{file} line {line}" for file, line in firsts) or report[:1000])
    return sorted(set(found))


def _serialised(launch: Launch) -> bytes:
    """The file that runtime/replay.cpp reads."""
    regions = launch.before
    assert regions is not None, "a launch of kept_launches()"
    sizes = [*launch.grid, *launch.block, launch.shared_mem, settings.order]
    parts = [_numbers(launch.function.index, *sizes, len(regions.copies))]
    for copy in regions.copies:
        parts += [_numbers(copy.size, copy.address % ALIGNMENT), copy.content()]
    parts.append(_numbers(len(launch.args)))
    places = dict(zip(launch.array_numbers, regions.places, strict=True))
    for i, argument in enumerate(launch.args):
        if (place := places.get(i)) is not None:
            parts.append(_numbers(1 + place.region, place.offset))
        else:
            parts.append(_numbers(0) + (bytes(8) if i in places else number(argument)))
    return b"".join(parts)


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def host_array(value: object) -> HostArray:
    """The values of an array: of the stand-in's, of CuPy's on a GPU, or of NumPy's own."""
    if hasattr(value, "_host"):
        return np.asarray(value._host)
    return np.asarray(value.get() if hasattr(value, "get") else value)
