"""A profile as facts for a file, and as a table's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .machine import Machine
from .profile import Profile

COLUMNS = ["what", "calls", "ms", "rate", "share", "at best ms"]
OVERHEAD = "the engine's own Python"


def profile_metadata(profile: Profile, machine: Machine) -> dict[str, Any]:
    """All of a profile, longest first, each entry with the seconds it takes at least on this machine ("floor")."""
    entries = [{**asdict(e), "floor": machine.floor(e.flops, e.bytes)} for e in profile.longest_first()]
    return {
        "seconds": profile.seconds,
        "overhead": profile.overhead,
        "overhead_share": profile.overhead_share,
        "entries": entries,
        "machine": asdict(machine),
    }


def profile_cells(facts: Mapping[str, Any]) -> list[list[str]]:
    """A row of cells for each entry, then the engine's own Python and the total, under COLUMNS."""
    whole = facts["seconds"]
    rows = [
        [
            entry["name"],
            str(entry["calls"]),
            _ms(entry["seconds"]),
            _rate(entry),
            f"{entry['seconds'] / whole:.1%}",
            _ms(entry["floor"]) if entry["floor"] else "",
        ]
        for entry in facts["entries"]
    ]
    floor = sum(entry["floor"] for entry in facts["entries"])
    overhead = [OVERHEAD, "", _ms(facts["overhead"]), "", f"{facts['overhead_share']:.1%}", ""]
    return [*rows, overhead, ["total", "", _ms(whole), "", "100.0%", _ms(floor)]]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}"


def _rate(entry: Mapping[str, Any]) -> str:
    if entry["flops"]:
        return f"{entry['flops'] / entry['seconds'] / 1e9:,.0f} GFLOP/s"
    return f"{entry['bytes'] / entry['seconds'] / 1e9:,.1f} GB/s" if entry["bytes"] else ""
