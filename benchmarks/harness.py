"""Comparison of contenders, each in its own process, run alternately with the same threads, weights and data."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import MappingProxyType
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from _one_line import Parser, need, run, writable

# isort: split
import numpy as np
from safetensors.numpy import save_file
from setups import Setup

from nanograd_gpt import GPTModel
from nanograd_gpt.bench.statistics import Ratio, interleaved, paired_ratio, summary
from nanograd_gpt.environment import environment
from nanograd_gpt.errors import RunError
from nanograd_gpt.files import write_whole
from nanograd_gpt.rng import Generator

__all__ = ["Parser", "run"]  # of _one_line, for the benchmarks

ROOT = Path(__file__).parent.parent
CONTENDERS = Path(__file__).parent / "contenders"
RESULTS = Path(__file__).parent / "results"
THREAD_VARIABLES = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NANOGRAD_THREADS"]
BEYOND_AVX2 = ("X86_V4", "AVX512")  # how NumPy's names of such instructions begin
PAUSE = 0.15  # seconds: BLAS threads keep spinning for tens of ms after a call
WARM_UP = 2  # samples that are discarded
SAMPLE_SECONDS = 0.5  # a processor reaches its speed some 40 ms after a pause, and a training has few pauses
TOLERANCE = 1e-4  # nats, between losses that should be equal

Sample = dict[str, float]


class ContenderError(RunError):
    """A contender's process has ended with an error."""


class DisagreementError(RunError):
    """Contenders compute different things, so their times do not compare."""


class Contender:
    """A process that runs contenders/NAME.py; contenders/protocol.py lists its requests.

    "ours again" is a second process of "ours".  python: the interpreter, by default this one.  variables: environment
    variables in addition to this process's.
    """

    def __init__(
        self,
        name: str,
        threads: int | None = None,
        python: str = sys.executable,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.errors = TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # open as long as the process runs; see close()
        script = CONTENDERS / f"{name.removesuffix(' again')}.py"
        n = str(threads or os.cpu_count() or 1)
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(THREAD_VARIABLES, n), **variables},
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.  Raises ContenderError with the last line of stderr if it ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: reported below
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            lines = [text.strip() for text in self.errors if text.strip()]
            raise ContenderError(f"{self.name}: {do} failed: {lines[-1] if lines else 'without a message'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@contextlib.contextmanager
def contenders(names: Sequence[str], threads: int | None = None) -> Iterator[dict[str, Contender]]:
    """Start contenders, by name, and end them with the block."""
    running: dict[str, Contender] = {}
    try:
        for name in names:
            running[name] = Contender(name, threads)
        yield running
    finally:
        for contender in running.values():
            contender.close()


@contextlib.contextmanager
def weights_of(setup: Setup) -> Iterator[str]:
    """A file of random weights under the book's names."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "weights.safetensors")
        save_file(GPTModel(setup.config, rng=Generator(123)).state_dict(), path)
        yield path


def agree(values: Mapping[str, Sequence[float]], tolerance: float = TOLERANCE) -> None:
    """Raise DisagreementError if a contender's numbers differ from the first one's by more than the tolerance."""
    (first, expected), *others = values.items()
    for name, given in others:
        if len(given) != len(expected) or not np.allclose(given, expected, rtol=0, atol=tolerance):
            raise DisagreementError(f"{first} has {_few(expected)}, {name} {_few(given)}: nothing is timed")


def _few(numbers: Sequence[float]) -> str:
    return ", ".join(f"{n:.6f}" for n in numbers[:3]) + (", ..." if len(numbers) > 3 else "")


def take_turns(
    running: Mapping[str, Contender], rounds: int, do: str, pause: float = PAUSE, **request: Any
) -> dict[str, list[Sample]]:
    """Ask each contender once per round, in the order A B, B A, A B ...; returns samples by name."""
    samples: dict[str, list[Sample]] = {name: [] for name in running}
    for order in interleaved(list(running), rounds):
        for name in order:
            time.sleep(pause)
            samples[name].append(running[name].ask(do, **request))
    return samples


def steps_a_sample(running: Mapping[str, Contender]) -> int:
    """The number of steps that take the slowest contender SAMPLE_SECONDS, by one step of each."""
    return ceil(SAMPLE_SECONDS / max(contender.ask("steps", n=1)["total"] for contender in running.values()))


def totals(samples: Sequence[Sample]) -> list[float]:
    return [sample["total"] for sample in samples]


def same_twice(samples: Mapping[str, Sequence[Sample]]) -> Ratio:
    """The ratio of "ours" to itself: the noise of this machine."""
    return paired_ratio(totals(samples["ours"]), totals(samples["ours again"]))


def report(samples: Mapping[str, Sequence[Sample]]) -> None:
    """Print each contender's median, and the ratio of the first one's time to it."""
    first = next(iter(samples))
    for name, theirs in samples.items():
        ratio = paired_ratio(totals(samples[first]), totals(theirs))
        beside = "" if name == first else f"    {first} / {name}: {ratio}"
        print(f"  {name:<12} {1e3 * summary(totals(theirs)).median:10.2f} ms{beside}", flush=True)


def new_parser(about: str, rounds: int) -> ArgumentParser:
    """The options of all comparisons."""
    parser = Parser(description=about.splitlines()[0])
    parser.add_argument("--rounds", type=_at_least_one, default=rounds, help="number of rounds [%(default)s]")
    parser.add_argument(
        "--threads", type=_at_least_one, default=os.cpu_count(), help="threads of every contender [%(default)s]"
    )
    parser.add_argument("--avx2", action="store_true", help="contenders without AVX-512; goes to results/avx2")
    parser.add_argument("--quick", action="store_true", help="very small models, to check that everything works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the result files")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"got {text!r}; a whole number >= 1 is needed")
    return int(text)


def parsed(parser: ArgumentParser, argv: Sequence[str] | None, *libraries: str) -> Namespace:
    """Parse a comparison's options.  Raises UsageError if a library is missing, or --out cannot be written to."""
    options = parser.parse_args(argv)
    need(*libraries)
    if options.avx2:
        os.environ.update(without_avx512())
        if options.out == RESULTS:
            options.out = RESULTS / "avx2"
    writable(options.out)
    return options


def without_avx512() -> dict[str, str]:
    """Environment variables with which NumPy, OpenBLAS, PyTorch and its libraries use AVX2 at most."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in found if name.startswith(BEYOND_AVX2)),
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }


def write(options: Namespace, name: str, facts: Mapping[str, Any]) -> None:
    """Write a result with its options and environment."""
    about = {
        "quick": options.quick,
        "avx2": options.avx2,
        "threads": options.threads,
        "environment": {"processor": processor(), **environment()},
    }
    path: Path = options.out / name
    write_whole(path, (json.dumps({**facts, **about}, indent=1) + "\n").encode())
    print(f"wrote {path}")


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
