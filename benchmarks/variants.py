"""nanograd_gpt's train step in several variants of its process, compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from harness import Contender, report, steps_a_sample, take_turns, weights_of
from scaling import MIDDLE
from setups import LARGE, QUICK, SMALL, Setup
from train_step import ready

from nanograd_gpt.errors import RunError


def steps(variants: Mapping[str, Mapping[str, Any]], rounds: int, threads: int, quick: bool) -> dict[str, Any]:
    """Samples of a small, a middle and the 124M train step by each variant: a name, and options of Contender."""
    found = {}
    for name, setup in {"small": SMALL, "base": MIDDLE, "124M": QUICK if quick else LARGE}.items():
        print(name)
        found[name] = {"setup": setup.facts(), "samples": compared(setup, variants, rounds, threads)}
    return found


def compared(setup: Setup, variants: Mapping[str, Mapping[str, Any]], rounds: int, threads: int) -> dict[str, Any]:
    """Samples of a train step by each variant, the first one's first."""
    facts: dict[str, Any] = {"failures": {}}
    with weights_of(setup) as weights, started(variants, threads) as running:
        ready(running, setup, weights, facts)
        for failure in facts["failures"].values():
            raise RunError(failure)
        samples = take_turns(running, rounds, "steps", n=steps_a_sample(running))
    report(samples)
    return samples


@contextmanager
def started(variants: Mapping[str, Mapping[str, Any]], threads: int) -> Iterator[dict[str, Contender]]:
    """A process of ours for each variant, by its name; ended with the block."""
    with ExitStack() as ends:
        running = {}
        for name, options in variants.items():
            running[name] = ends.enter_context(closing(Contender("ours", threads, **options)))
            running[name].name = name
        yield running
