"""A tape as an SVG: the time in each module, forward and backward.

Places are percentages of the page's width and heights are pixels, so that text has the same size on every screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor, log10

from .operation import Operation
from .table import HOST_TIME, byte_count

MOST_ROWS = 40
HEAD, ROW, FOOT, INDENT = 78, 36, 44, 12  # pixels
LONGEST = 28  # characters of a name that fit beside its times on a phone, less two for each level
TICKS = 4  # at most, after 0: as many numbers as fit on a phone

CSS = """
.tape { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --forward: #0072b2;
  --backward: #d55e00; }
@media (prefers-color-scheme: dark) { .tape { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4ae; --line: #30363d;
  --forward: #56b4e9; --backward: #f0863a; } }
.tape text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); paint-order: stroke;
  stroke: var(--paper); stroke-width: 4px; }
.tape .title { font-weight: 700; font-size: 14px; }
.tape .soft { fill: var(--soft); }
.tape .module { font-weight: 700; }
.tape .end { text-anchor: end; }
.tape .middle { text-anchor: middle; }
.tape .paper { fill: var(--paper); }
.tape .forward { fill: var(--forward); }
.tape .backward { fill: var(--backward); }
.tape line { stroke: var(--line); }
@media (max-width: 560px) { .tape .wide { display: none; } }
"""


@dataclass
class Part:
    """A module or an operation in the figure, with all that is inside it."""

    name: str
    forward: float = 0.0
    backward: float = 0.0
    kept: int = 0
    n: int = 0  # operations
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def ms(self) -> float:
        """Milliseconds, forward and backward."""
        return self.forward + self.backward


def figure(operations: Sequence[Operation], ms: float, on_gpu: bool) -> str:
    """The text of the SVG file: a bar for each module and for what is inside it, as deep as MOST_ROWS rows show all."""
    root = _tree(operations)
    depth = next((d for d in range(_depth(root), 1, -1) if len([*_rows(root, d)]) <= MOST_ROWS), 1)
    rows = [*_rows(root, depth)]
    most = max((part.ms for part in root.parts.values()), default=0.0) or 1.0
    height = HEAD + ROW * len(rows) + FOOT
    note = f" {HOST_TIME[:9]}." if on_gpu else ""
    outside = f"{_ms(ms - root.ms)} of {_ms(ms)} ms outside operations.{note}"
    return "\n".join(
        [
            f'<svg class="tape" xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" role="img" '
            'aria-label="Time in each module, forward and backward">',
            f'<style>{CSS}</style><rect class="paper" width="100%" height="100%"/>',
            f'<svg x="4%" width="92%" height="{height}" overflow="visible">',
            '<text class="title" y="26">Time in each module</text>',
            f'<rect class="forward" y="37" width="11" height="11"/>'
            f'<text x="16" y="47">forward {_ms(root.forward)} ms</text>'
            f'<rect class="backward" x="150" y="37" width="11" height="11"/>'
            f'<text x="166" y="47">backward {_ms(root.backward)} ms</text>',
            f'<text class="soft" y="66">{outside}</text>',
            *_axis(most, HEAD + ROW * len(rows)),
            *(_row(part, level, HEAD + ROW * i, most, depth) for i, (part, level) in enumerate(rows)),
            "</svg></svg>\n",
        ]
    )


def _tree(operations: Sequence[Operation]) -> Part:
    root = Part("")
    for operation in operations:
        parts = [root]
        for name in [*(operation.path.split(".") if operation.path else []), operation.name]:
            parts.append(parts[-1].parts.setdefault(name, Part(name)))
        for part in parts:
            part.forward += operation.forward_ms
            part.backward += operation.backward_ms
            part.kept += operation.kept
            part.n += 1
    return root


def _depth(part: Part) -> int:
    return 1 + max((_depth(inner) for inner in part.parts.values()), default=0)


def _rows(part: Part, depth: int, level: int = 0) -> Iterator[tuple[Part, int]]:
    """Yield the parts down to a depth, with their level; an only part has its module's time, and no row of its own."""
    for inner in part.parts.values():
        yield inner, level
        if depth > 1:
            yield from _rows(_with_parts(inner), depth - 1, level + 1)


def _with_parts(part: Part) -> Part:
    """The part, or inside it the first one that has several parts or none."""
    while len(part.parts) == 1:
        (part,) = part.parts.values()
    return part


def _row(part: Part, level: int, top: int, most: float, depth: int) -> str:
    closed = level == depth - 1 and len(_with_parts(part).parts) > 1
    note = f" ({part.n} operations)" if closed else ""
    name, shown = part.name + note, _cut(part.name, LONGEST - 2 * level - len(note)) + note
    kept = f" · {byte_count(part.kept)} kept" if part.kept else ""
    forward, backward = (100 * ms / most for ms in (part.forward, part.backward))
    return (
        f"<g><title>{escape(name)}: forward {_ms(part.forward)} ms, backward {_ms(part.backward)} ms{kept}</title>"
        f'<text{_class(part)} x="{INDENT * level}" y="{top + 13}">{escape(shown)}</text>'
        f'<text class="end soft" x="100%" y="{top + 13}">{_ms(part.forward)} + {_ms(part.backward)} ms'
        f'<tspan class="wide">{kept}</tspan></text>'
        f'<rect class="forward" y="{top + 18}" width="{forward:.3f}%" height="10"/>'
        f'<rect class="backward" x="{forward:.3f}%" y="{top + 18}" width="{backward:.3f}%" height="10"/></g>'
    )


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _class(part: Part) -> str:
    return ' class="module"' if part.parts else ""


def _axis(most: float, bottom: int) -> Iterator[str]:
    """Yield a line with its number for every tick, and the unit."""
    step = _nice_step(most)
    for i in range(floor(most / step + 1e-9) + 1):
        x = 100 * i * step / most
        yield f'<line x1="{x:.3f}%" x2="{x:.3f}%" y1="{HEAD}" y2="{bottom + 4}"/>'
        yield f'<text class="middle soft" x="{x:.3f}%" y="{bottom + 18}">{i * step:g}</text>'
    yield f'<text class="middle soft" x="50%" y="{bottom + 36}">milliseconds</text>'


def _nice_step(most: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that makes at most TICKS ticks."""
    power = 10.0 ** floor(log10(most / TICKS))
    return next(power * k for k in (1, 2, 5, 10) if most / (power * k) <= TICKS)


def _ms(ms: float) -> str:
    """Milliseconds with at least three digits, down to hundredths."""
    return f"{ms:,.{2 if ms < 10 else 1 if ms < 100 else 0}f}"
