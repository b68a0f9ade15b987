"""A profile as a JSON-serialisable dictionary, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from .machine import Machine
from .profile import Profile

COLUMNS = ["what", "calls", "ms", "rate", "share", "at best ms"]
OVERHEAD = "the engine's own Python"
CACHED = "cached"  # instead of a lower bound: faster than the memory bandwidth allows


def profile_metadata(profile: Profile, machine: Machine) -> dict[str, Any]:
    """Convert a profile to a dictionary, longest entry first, each with its lower bound in seconds.

    The rate of matrix products is the highest one seen, in the measurement or in the profile: no kernel can beat it.
    """
    seen = [e.flops / e.seconds for e in profile.entries.values() if e.flops]
    machine = replace(machine, flops_per_second=max([machine.flops_per_second, *seen]))
    entries = [{**asdict(e), "lower_bound": machine.lower_bound(e.flops, e.bytes)} for e in profile.longest_first()]
    return {
        "seconds": profile.seconds,
        "overhead": profile.overhead,
        "overhead_share": profile.overhead_share,
        "entries": entries,
        "machine": asdict(machine),
    }


def profile_cells(profile: Mapping[str, Any]) -> list[list[str]]:
    """Format the rows of a table under COLUMNS: each entry, then the engine's own Python and the total.

    "at best" is never above the measured time: a kernel whose arrays are in the caches can be faster than the memory.
    """
    total = profile["seconds"]
    rows = [
        [
            entry["name"],
            str(entry["calls"]),
            _ms(entry["seconds"]),
            _rate(entry),
            f"{entry['seconds'] / total:.1%}",
            _at_best(entry),
        ]
        for entry in profile["entries"]
    ]
    bound = sum(min(entry["lower_bound"], entry["seconds"]) for entry in profile["entries"])
    overhead = [OVERHEAD, "", _ms(profile["overhead"]), "", f"{profile['overhead_share']:.1%}", ""]
    return [*rows, overhead, ["total", "", _ms(total), "", "100.0%", _ms(bound)]]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}"


def _at_best(entry: Mapping[str, Any]) -> str:
    if not entry["lower_bound"]:
        return ""
    if entry["lower_bound"] > entry["seconds"] and not entry["flops"]:
        return CACHED
    return _ms(min(entry["lower_bound"], entry["seconds"]))


def _rate(entry: Mapping[str, Any]) -> str:
    if entry["flops"]:
        return f"{entry['flops'] / entry['seconds'] / 1e9:,.0f} GFLOP/s"
    return f"{entry['bytes'] / entry['seconds'] / 1e9:,.1f} GB/s" if entry["bytes"] else ""
