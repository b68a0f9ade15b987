"""A model of data-parallel training: the time of a sum over N hosts, and how much of it the backward pass hides.

A sum of n bytes takes `rounds` messages one after another, and each host sends `volume` n bytes.  By the ring, in
2 (N - 1) rounds (Patarasuk and Yuan 2009); by halving and doubling, which is MPICH's choice for large messages, in
2 log2 N rounds (Rabenseifner 2004), with the same volume if N is a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SEGMENT = 1448  # bytes of data in an Ethernet frame of 1,500
HEADERS = 66  # Ethernet's, IP's and TCP's with its timestamp
GAP = 24  # preamble, checksum and pause, which a real wire has
ON_A_WIRE = (SEGMENT + HEADERS + GAP) / SEGMENT
PAST_A_BURST = 1 << 20  # bytes: a limited link sends the first of a message at once
IN_A_NAMESPACE = (SEGMENT + HEADERS) / SEGMENT  # a rate limit counts these


@dataclass(frozen=True)
class Cost:
    """Rounds of messages, and bytes that one link carries, in multiples of the summed ones."""

    rounds: int
    volume: float


def ring(hosts: int) -> Cost:
    return Cost(2 * (hosts - 1), 2 * (hosts - 1) / hosts)


def halving(hosts: int) -> Cost:
    """Hosts above a power of two send all to a partner first, whose link is busy with half of another's meanwhile."""
    power = 1 << (hosts.bit_length() - 1)
    folded = power != hosts
    doublings = power.bit_length() - 1
    return Cost(2 * (doublings + folded), 2 * (power - 1) / power + (2.5 if folded else 0.0))


ALGORITHMS: Mapping[str, Callable[[int], Cost]] = {"ring": ring, "halving": halving}


@dataclass(frozen=True)
class Sums:
    """A measured machine: what its sums cost beside the wire.

    latency             seconds of a round
    processor           seconds per byte that the transfer does not hide
    fastest             seconds per byte where nothing limits the link: copies alone
    """

    latency: float
    processor: float
    fastest: float

    def per_byte(self, bits_per_second: float, frame: float = ON_A_WIRE) -> float:
        return max(8 * frame / bits_per_second + self.processor, self.fastest)

    def seconds(self, cost: Cost, nbytes: float, per_byte: float) -> float:
        return cost.rounds * self.latency + cost.volume * nbytes * per_byte


@dataclass(frozen=True)
class Step:
    """A train step of one rank without any sum.

    ready               seconds from the beginning of the backward pass to the end of each bucket's
    nbytes              of each bucket
    """

    forward: float
    backward: float
    optimizer: float
    ready: Sequence[float]
    nbytes: Sequence[int]

    @property
    def seconds(self) -> float:
        return self.forward + self.backward + self.optimizer


def plain_wait(step: Step, one: Callable[[float], float]) -> float:
    """Seconds from the end of the backward pass to that of the sums, all sent then; `one` is the time of a sum."""
    return sum(map(one, step.nbytes))


def overlapped_wait(step: Step, one: Callable[[float], float]) -> float:
    """The same, where each bucket is sent as soon as it is final and the link is free."""
    end = 0.0
    for ready, nbytes in zip(step.ready, step.nbytes, strict=True):
        end = max(end, ready) + one(nbytes)
    return max(0.0, end - step.backward)


WAITS = {"plain": plain_wait, "overlapped": overlapped_wait}


def wait(way: str, step: Step, hosts: int, sums: Sums, per_byte: float, algorithm: str | None = None) -> float:
    """Seconds that a step waits for its sums, by an algorithm or the faster one; `way` is one of WAITS."""
    names = ALGORITHMS if algorithm is None else [algorithm]
    costs = [ALGORITHMS[name](hosts) for name in names]
    return min(WAITS[way](step, lambda n, cost=cost: sums.seconds(cost, n, per_byte)) for cost in costs)


def efficiency(step: Step, waited: float) -> float:
    """Tokens per second of all hosts over those of as many that exchange nothing."""
    return step.seconds / (step.seconds + waited)


# --- fits


def fitted(limited: Mapping[int, float], unlimited: Mapping[int, float], bits_per_second: float) -> Sums:
    """Fit the costs to the seconds of sums of some sizes over two hosts, with and without a limit of the rate."""
    latency, fastest = _line(unlimited, ring(2))
    _, per_byte = _line({nbytes: time for nbytes, time in limited.items() if nbytes >= PAST_A_BURST}, ring(2))
    return Sums(latency, max(0.0, per_byte - 8 * IN_A_NAMESPACE / bits_per_second), fastest)


def _line(seconds: Mapping[int, float], cost: Cost) -> tuple[float, float]:
    """Seconds of a round, and per byte: least squares of the relative errors, neither below 0."""
    sizes, times = np.array([*seconds], dtype=float), np.array([*seconds.values()])
    rows = np.stack([np.full_like(sizes, cost.rounds), cost.volume * sizes], axis=1) / times[:, None]
    (latency, per_byte), *_ = np.linalg.lstsq(rows, np.ones_like(times), rcond=None)
    return max(0.0, float(latency)), max(0.0, float(per_byte))


def step_of(measured: Mapping[int, Step], tokens: float) -> Step:
    """The step of a number of tokens: its passes on a straight line through those measured, the rest a mean."""
    known = np.array([*measured], dtype=float)

    def at(values: Sequence[float]) -> float:
        rows = np.stack([np.ones_like(known), known], axis=1) / np.array(values)[:, None]
        (fixed, each), *_ = np.linalg.lstsq(rows, np.ones_like(known), rcond=None)
        return max(0.0, float(fixed)) + float(each) * tokens

    steps = [*measured.values()]
    backward = at([step.backward for step in steps])
    parts = np.mean([np.array(step.ready) / step.backward for step in steps], axis=0)
    return Step(
        forward=at([step.forward for step in steps]),
        backward=backward,
        optimizer=float(np.mean([step.optimizer for step in steps])),
        ready=(backward * parts).tolist(),
        nbytes=steps[0].nbytes,
    )


def sent_by_ring(hosts: int, nbytes: float) -> float:
    """Bytes that each host sends."""
    return ring(hosts).volume * nbytes
