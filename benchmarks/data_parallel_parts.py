"""The part of benchmarks/README.md on several hosts, from results/data_parallel.json, and the model's projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data_parallel_model import (
    ALGORITHMS,
    IN_A_NAMESPACE,
    ON_A_WIRE,
    WAITS,
    Step,
    Sums,
    efficiency,
    fitted,
    sent_by_ring,
    step_of,
    wait,
)
from speed_parts import about, markdown, quick, result

from nanograd_gpt.bench.statistics import summary

MOST_HOSTS = 1024
TOKENS = [512, 2048, 8192, 32768]  # of a rank in one update
ENOUGH = 0.9  # efficiency
DEFAULT = "MPICH's default"
PHASES = ["forward", "backward", "optimizer"]


class Link(NamedTuple):
    """A network: bits per second of each host's link, and whether its adapter copies without the processor."""

    label: str
    bits_per_second: float
    by_adapter: bool = False

    def per_byte(self, sums: Sums) -> float:
        wire = 8 * ON_A_WIRE / self.bits_per_second
        return wire if self.by_adapter else sums.per_byte(self.bits_per_second)


LINKS = [
    Link("1 Gbit/s, TCP", 1e9),
    Link("10 Gbit/s, TCP", 1e10),
    Link("25 Gbit/s, RDMA", 2.5e10, by_adapter=True),
    Link("100 Gbit/s, RDMA", 1e11, by_adapter=True),
]


class Compared(NamedTuple):
    """A measurement beside the model's."""

    measured: float
    model: float

    @property
    def ratio(self) -> float:
        return self.model / self.measured


def sums_of(facts: Mapping[str, Any]) -> Sums:
    """The costs of sums, from the fastest of each size: other work on this machine only adds to a time."""
    both = facts["fit"]
    limited, unlimited = (
        {int(size): min(times) for size, times in both[name]["seconds"].items()} for name in ("limited", "unlimited")
    )
    return fitted(limited, unlimited, both["limited"]["bits_per_second"])


def checked_sums(facts: Mapping[str, Any]) -> dict[tuple[str, int, int], Compared]:
    """The fastest sum of each size in each way and number of hosts, beside the model's."""
    sums, found = sums_of(facts), {}
    for entry in facts["check"]:
        per_byte = sums.per_byte(entry["bits_per_second"], IN_A_NAMESPACE)
        for size, times in entry["seconds"].items():
            cost = ALGORITHMS["ring" if entry["way"] == "ring" else "halving"](entry["hosts"])
            key = entry["way"], entry["hosts"], int(size)
            found[key] = Compared(min(times), sums.seconds(cost, int(size), per_byte))
    return found


class CheckedStep(NamedTuple):
    """Median waits and steps over some hosts beside the model's, and the most bytes that a host has sent, by way."""

    hosts: int
    bits_per_second: float
    waits: dict[str, Compared]
    steps: dict[str, Compared]
    sent: dict[str, float]  # in multiples of a ring's


def checked_steps(facts: Mapping[str, Any]) -> list[CheckedStep]:
    return [_checked_step(sums_of(facts), entry) for entry in facts["steps"]]


def _checked_step(sums: Sums, entry: Mapping[str, Any]) -> CheckedStep:
    ways, hosts = entry["ways"], entry["hosts"]
    ready = [summary(times).median for times in zip(*(one["ready"] for one in ways["none"]), strict=True)]
    step = Step(*(_median(ways["none"], phase) for phase in PHASES), ready, entry["nbytes"])
    per_byte = sums.per_byte(entry["bits_per_second"], IN_A_NAMESPACE)
    expected = {way: wait(way, step, hosts, sums, per_byte, "ring") for way in WAITS}
    ideal = sent_by_ring(hosts, sum(entry["nbytes"]))
    return CheckedStep(
        hosts=hosts,
        bits_per_second=entry["bits_per_second"],
        waits={way: Compared(_median(ways[way], "wait"), expected[way]) for way in WAITS},
        steps={way: Compared(_median(ways[way], "total"), step.seconds + expected[way]) for way in WAITS},
        sent={way: max(one["sent_in_backward"] + one["sent_after"] for one in ways[way]) / ideal for way in WAITS},
    )


def _median(steps: list[dict[str, Any]], name: str) -> float:
    return summary([one[name] for one in steps]).median


# --- the projection


def measured_steps(facts: Mapping[str, Any]) -> dict[int, Step]:
    return {int(tokens): Step(**step) for tokens, step in facts["step"]["steps"].items()}


def projected(facts: Mapping[str, Any], way: str, link: Link, hosts: int, tokens: float) -> float:
    """The efficiency over so many hosts, with so many tokens on each in an update."""
    sums, step = sums_of(facts), step_of(measured_steps(facts), tokens)
    return efficiency(step, wait(way, step, hosts, sums, link.per_byte(sums)))


def tokens_enough(facts: Mapping[str, Any], way: str, link: Link, hosts: int = MOST_HOSTS) -> float:
    """Tokens of a rank from which on the efficiency is at least ENOUGH: by bisection, as it grows with them."""
    low, high = 1.0, 1e9
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if projected(facts, way, link, hosts, middle) >= ENOUGH else (middle, high)
    return high


# --- wording


def data_parallel() -> str:
    """The measurements beside the model, the projection, and its limits."""
    whole = result("data_parallel.json")
    facts = whole["parts"]
    return "\n\n".join([_sums(facts), _steps(facts), _projection(facts), _limits(facts), about(whole) + quick(whole)])


def _sums(facts: Mapping[str, Any]) -> str:
    compared = checked_sums(facts)
    rate = facts["check"][0]["bits_per_second"]
    head = [f"sum over links of {rate / 1e6:.0f} Mbit/s", "ring, ms", "model", "halving, ms", "model", f"{DEFAULT}, ms"]
    rows = []
    for hosts, size in [key[1:] for key in compared if key[0] == "ring"]:
        ring, halving, default = (compared[way, hosts, size] for way in ("ring", "halving", DEFAULT))
        cells = [f"{1e3 * ring.measured:,.0f}", f"{ring.ratio:.2f}", f"{1e3 * halving.measured:,.0f}"]
        cells += [f"{halving.ratio:.2f}", f"{1e3 * default.measured:,.0f}"]
        rows.append([f"{hosts} hosts, {size / 2**20:g} MiB", *cells])
    return markdown(head, rows)


def _steps(facts: Mapping[str, Any]) -> str:
    head = ["step", "wait, ms", "model", "wait, overlapped", "model", "step, ms", "model", "step, overlapped", "model"]
    rows = []
    for one in checked_steps(facts):
        cells = []
        for of in (one.waits, one.steps):
            for way in WAITS:
                cells += [f"{1e3 * of[way].measured:,.0f}", f"{1e3 * of[way].model:,.0f}"]
        rows.append([f"{one.hosts} hosts, {one.bits_per_second / 1e6:,.0f} Mbit/s", *cells])
    return markdown(head, rows)


def _projection(facts: Mapping[str, Any]) -> str:
    head = [f"{MOST_HOSTS:,} hosts", *(f"{n:,} tokens" for n in TOKENS), f"tokens for {ENOUGH:.0%}"]
    rows = []
    for link in LINKS:
        pairs = [[f"{projected(facts, way, link, MOST_HOSTS, n):.0%}" for way in WAITS] for n in TOKENS]
        enough = [f"{float(f'{tokens_enough(facts, way, link):.2g}'):,.0f}" for way in WAITS]
        rows.append([link.label, *(" / ".join(pair) for pair in [*pairs, enough])])
    return markdown(head, rows)


def _limits(facts: Mapping[str, Any]) -> str:
    """The parts of the wait at the largest number of hosts."""
    sums, step = sums_of(facts), step_of(measured_steps(facts), TOKENS[1])
    link = LINKS[1]
    per_byte = link.per_byte(sums)
    costs = {name: make(MOST_HOSTS) for name, make in ALGORITHMS.items()}
    faster = min(costs, key=lambda name: sum(sums.seconds(costs[name], n, per_byte) for n in step.nbytes))
    total, last = sum(step.nbytes), step.nbytes[-1]
    bytes_alone = costs[faster].volume * total * per_byte
    latency = costs[faster].rounds * sums.latency * len(step.nbytes)
    by_ring = costs["ring"].rounds * sums.latency * len(step.nbytes)
    enough = float(f"{tokens_enough(facts, 'overlapped', link):.2g}")
    last_alone = sums.seconds(costs[faster], last, per_byte)
    return (
        f"Measured here: {1e6 * sums.latency:.0f} us for a round of messages; {1e9 * sums.processor:.2f} ns per byte "
        f"that the transfer does not hide, and {1e9 * sums.fastest:.2f} ns per byte of copies where nothing limits the "
        f"link, so that beyond {8 / sums.fastest / 1e9:.1f} Gbit/s the processor limits TCP. A step of the 124M model "
        f"sums {total / 1e6:,.0f} MB in {len(step.nbytes)} buckets. With {MOST_HOSTS:,} hosts and {link.label}, these "
        f"bytes take {bytes_alone:.1f} s, hardly more than with eight hosts, since each sends 2 (N - 1) / N of them. "
        f"Rounds take {latency:.2f} s by {faster} and {by_ring:.1f} s by the ring. The token embedding's "
        f"{last / 1e6:,.0f} MB are final only when the backward pass ends, so {last_alone:.2f} s are never hidden. "
        f"So what limits {MOST_HOSTS:,} hosts is not their number but how much each computes between two sums: its "
        "tokens. A host that computes ten times as fast needs a link ten times as fast, or ten times the tokens. With "
        f"the {enough:,.0f} tokens that reach {ENOUGH:.0%}, an update has {MOST_HOSTS * enough / 1e6:.1f} million, "
        "and the training must be able to use so large a batch. The model leaves out a switch that is slower than all "
        "its links together, and hosts that are slower than others."
    )


IN_BENCHMARKS: dict[str, Callable[[], str]] = {"data parallel": data_parallel}
