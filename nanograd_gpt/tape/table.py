"""A tape as a table of text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..tables import aligned
from .operation import Operation

COLUMNS = ["operation", "module", "first input", "result", "dtype", "calls"]
COLUMNS += ["forward ms", "backward ms", "kept", "called at"]
LEFT = (0, 1, 2, 3, 4, 9)
HOST_TIME = "host time: kernels are queued on the GPU, which may run them later"


def table(operations: Sequence[Operation], ms: float, on_gpu: bool) -> str:
    """A line for each operation, in order, and the totals; calls that differ in their time alone share a line."""
    alike: dict[tuple[str, ...], list[Operation]] = defaultdict(list)
    for o in operations:
        first = _shape(o.inputs[0]) if o.inputs else ""
        alike[o.name, o.path, first, _shape(o.shape) if o.dtype else "", o.dtype, o.source].append(o)
    rows = [[*facts, f"{len(some)}", *_sums(some), source] for (*facts, source), some in alike.items()]
    forward, backward = (sum(getattr(o, f"{way}_ms") for o in operations) for way in ("forward", "backward"))
    blank = [""] * 4
    sums = ["all operations", *blank, f"{len(operations)}", *_sums(operations), ""]
    rest = ["outside operations", *blank, "", f"{ms - forward - backward:.3f}", "", "", ""]
    total = ["total", *blank, "", f"{ms:.3f}", "", "", ""]
    lines = aligned([COLUMNS, *rows, sums, rest, total], LEFT)
    return "\n".join([*lines, *([HOST_TIME] if on_gpu else [])])


def _sums(operations: Sequence[Operation]) -> list[str]:
    forward, backward = (sum(getattr(o, f"{way}_ms") for o in operations) for way in ("forward", "backward"))
    return [f"{forward:.3f}", f"{backward:.3f}" if backward else "", byte_count(sum(o.kept for o in operations))]


def byte_count(n: int) -> str:
    """A number of bytes in words: 1.5 MiB; nothing for none."""
    if n < 1024:
        return f"{n} B" if n else ""
    return f"{n / 1024:.1f} KiB" if n < 1 << 20 else f"{n / (1 << 20):,.1f} MiB"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"
