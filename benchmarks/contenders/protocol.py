"""The contenders' protocol: requests on stdin, answers on stdout, one line of JSON each.

    {"do": "prepare", "config": {...}, "weights": FILE or null, "batches": [[ids, targets], ...]}  ->  {}
    {"do": "check"}            ->  {"losses": [before, after one update]}, dropout off
    {"do": "steps", "n": n}    ->  {"forward": s, "backward": s, "optimizer": s, "total": s, "cpu": s} of one step
    {"do": "evaluate"}         ->  {"loss": nats}
    {"do": "logits", "ids": [...]}                ->  {"logits": [...]} of the last token
    {"do": "generate", "ids": [...], "n": n}      ->  {"ids": [...], "total": s, "cpu": s}; "rows": as many equal ones
    {"do": "quit"}             ->  {"peak_memory": bytes, "versions": {...}}

Imports the standard library only, since memory is measured too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter, process_time
from typing import Any

PHASES = ["forward", "backward", "optimizer"]


class Clock:
    """Wall time of laps, and CPU time of all threads."""

    def __init__(self) -> None:
        self.cpu, self.laps = process_time(), [perf_counter()]

    def lap(self) -> None:
        self.laps.append(perf_counter())

    def seconds(self, *names: str) -> dict[str, float]:
        """Each lap by its name, "total" and "cpu"."""
        cpu = process_time() - self.cpu
        laps = {name: b - a for name, a, b in zip(names, self.laps[:-1], self.laps[1:], strict=True)}
        return {**laps, "total": self.laps[-1] - self.laps[0], "cpu": cpu}


def halves(clock: Clock, n: int) -> dict[str, float]:
    """The mean seconds of forward and backward, from alternating laps."""
    laps = clock.seconds(*[f"{phase} {i}" for i in range(n) for phase in ("forward", "backward")])
    mean = {p: sum(laps[f"{p} {i}"] for i in range(n)) / n for p in ("forward", "backward")}
    return {**mean, "total": laps["total"] / n, "cpu": laps["cpu"] / n}


class Contender:
    """Base class of the contenders.  A subclass adds prepare() and a method per request."""

    packages: tuple[str, ...] = ()

    def quit(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bytes_a_unit = 1 if sys.platform == "darwin" else 1024
        return {
            "peak_memory": peak * bytes_a_unit,
            "versions": {name: version(name) for name in self.packages},
        }


class Training(Contender, ABC):
    """Base class of training contenders, which cycle through a few batches."""

    done = 0
    batches: list[Any]
    model: Any
    optimizer: Any

    @abstractmethod
    def loss(self, ids: Any, targets: Any) -> Any: ...

    @abstractmethod
    def start_anew(self) -> None:
        """Load the initial weights, and reset the optimizer."""

    def check(self) -> dict[str, list[float]]:
        """The losses before and after one update, without dropout."""
        ids, targets = self.batches[0]
        self.model.eval()
        before = self.loss(ids, targets)
        before.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        after = self.loss(ids, targets)
        self.start_anew()
        self.model.train()
        return {"losses": [before.item(), after.item()]}

    def step(self, ids: Any, targets: Any) -> dict[str, float]:
        """Run one update; returns the seconds of each phase, "total" and "cpu"."""
        clock = Clock()
        loss = self.loss(ids, targets)
        clock.lap()
        loss.backward()
        clock.lap()
        self.optimizer.step()
        self.optimizer.zero_grad()
        clock.lap()
        return clock.seconds(*PHASES)

    def steps(self, n: int) -> dict[str, float]:
        """The mean seconds of n steps."""
        sums: dict[str, float] = {}
        for _ in range(n):
            ids, targets = self.batches[self.done % len(self.batches)]
            for name, seconds in self.step(ids, targets).items():
                sums[name] = sums.get(name, 0.0) + seconds / n
            self.done += 1
        return sums


def serve(contender: Contender) -> None:
    """Answer requests until "quit"."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps the output of libraries apart from the answers
    for line in sys.stdin:
        request = json.loads(line)
        do: Callable[..., dict[str, Any] | None] = getattr(contender, request.pop("do"))
        print(json.dumps(do(**request) or {}), file=answers, flush=True)
        if do == contender.quit:
            return
