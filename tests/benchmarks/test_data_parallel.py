"""The model of data-parallel training agrees with what was measured over several hosts, and with itself."""

from __future__ import annotations

import json
import re
from math import log2
from pathlib import Path

import data_parallel
import data_parallel_figure
import data_parallel_model as model
import data_parallel_parts as parts
import harness
import pytest
from data_parallel_model import Step, Sums
from svg_text import PHONE, smallest_text

STORED = json.loads((harness.RESULTS / "data_parallel.json").read_text(encoding="utf-8"))
FACTS = STORED["parts"]
CLOSE = 0.15
LEAST = 4 << 20  # bytes of a sum
SUMS = Sums(latency=1e-4, processor=0.0, fastest=0.0)
STEP = Step(forward=1.0, backward=2.0, optimizer=0.5, ready=[0.5, 1.0, 2.0], nbytes=[4_000_000, 4_000_000, 1_000_000])


def seconds_of(nbytes: float) -> float:
    """The time of a sum at a microsecond per byte."""
    return nbytes * 1e-7


# --- what was measured


def test_the_model_of_a_sum_is_within_15_percent_of_2_3_and_4_hosts() -> None:
    assert STORED["quick"] is False
    ratios = {key: one.ratio for key, one in parts.checked_sums(FACTS).items() if key[0] == "ring"}
    assert {hosts for _, hosts, _ in ratios} == {2, 3, 4}
    assert min(size for *_, size in ratios) == LEAST
    assert [(key, ratio) for key, ratio in ratios.items() if abs(ratio - 1) > CLOSE] == []


def test_the_model_of_a_step_is_within_15_percent_of_2_3_and_4_hosts() -> None:
    steps = parts.checked_steps(FACTS)
    assert {one.hosts for one in steps} == {2, 3, 4}
    found = [(one.hosts, way, compared.ratio) for one in steps for way, compared in one.steps.items()]
    assert [one for one in found if abs(one[-1] - 1) > CLOSE] == []


def test_overlap_over_a_gigabit_hides_at_least_half_of_the_wait() -> None:
    (gigabit,) = [one for one in parts.checked_steps(FACTS) if one.bits_per_second == 1e9]
    assert gigabit.waits["overlapped"].measured <= gigabit.waits["plain"].measured / 2


def test_each_gradient_was_sent_once_in_both_ways() -> None:
    for one in parts.checked_steps(FACTS):
        assert all(1 <= sent < 1.05 for sent in one.sent.values())


# --- the model


@pytest.mark.parametrize("hosts", [2, 4, 1024])
def test_both_algorithms_send_the_same_bytes_over_a_power_of_two(hosts: int) -> None:
    ring, halving = model.ring(hosts), model.halving(hosts)
    assert ring.volume == halving.volume == 2 * (hosts - 1) / hosts
    assert (ring.rounds, halving.rounds) == (2 * (hosts - 1), 2 * log2(hosts))


def test_three_hosts_send_more_by_halving() -> None:
    assert model.halving(3).volume > 2.5 * model.ring(3).volume


def test_costs_are_found_again_from_the_times_that_they_cause() -> None:
    costs = Sums(latency=4e-5, processor=5e-10, fastest=1.5e-9)
    sizes, one = [1 << k for k in range(12, 25, 2)], model.ring(2)
    limited, unlimited = (
        {n: costs.seconds(one, n, per_byte) for n in sizes}
        for per_byte in (costs.per_byte(1e9, model.IN_A_NAMESPACE), costs.fastest)
    )
    found = model.fitted(limited, unlimited, 1e9)
    assert vars(found) == pytest.approx(vars(costs))


def test_a_link_is_never_faster_than_the_copies() -> None:
    sums = Sums(0.0, 1e-10, 1.5e-9)
    assert sums.per_byte(1e9) > 8e-9
    assert sums.per_byte(1e12) == 1.5e-9


def test_overlapped_sums_wait_for_their_gradients_and_for_the_link() -> None:
    assert model.plain_wait(STEP, seconds_of) == pytest.approx(0.9)
    assert model.overlapped_wait(STEP, seconds_of) == pytest.approx(0.1)  # the last bucket alone
    busy = model.overlapped_wait(STEP, lambda n: 10 * seconds_of(n))
    assert busy == pytest.approx(0.5 + 9 - 2.0)  # from the first bucket on


@pytest.mark.parametrize("way", model.WAITS)
def test_efficiency_falls_with_hosts_and_grows_with_the_link(way: str) -> None:
    def efficiency(hosts: int, per_byte: float) -> float:
        return model.efficiency(STEP, model.wait(way, STEP, hosts, SUMS, per_byte))

    over_hosts = [efficiency(1 << k, 1e-7) for k in range(1, 11)]
    assert over_hosts == sorted(over_hosts, reverse=True)
    assert efficiency(64, 1e-9) > efficiency(64, 1e-8) > efficiency(64, 1e-7)


def test_a_step_of_more_tokens_is_on_the_line_through_those_measured() -> None:
    steps = {n: Step(1e-3 * n, 0.1 + 2e-3 * n, 0.5, [0.05 + 1e-3 * n, 0.1 + 2e-3 * n], [8, 4]) for n in (100, 200, 400)}
    found = model.step_of(steps, 800)
    assert (found.forward, found.backward, found.optimizer) == pytest.approx((0.8, 1.7, 0.5))
    assert found.ready == pytest.approx([0.85, 1.7])


def test_the_tokens_that_are_enough_are_the_fewest() -> None:
    link = parts.LINKS[0]
    for way in model.WAITS:
        enough = parts.tokens_enough(FACTS, way, link)
        assert parts.projected(FACTS, way, link, parts.MOST_HOSTS, enough) >= parts.ENOUGH
        assert parts.projected(FACTS, way, link, parts.MOST_HOSTS, enough / 1.01) < parts.ENOUGH


# --- the figure, and the measurement


def test_the_figure_is_legible_on_a_phone_and_in_the_dark(tmp_path: Path) -> None:
    data_parallel_figure.write_figure(tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    stored = (harness.RESULTS / "data_parallel.svg").read_text(encoding="utf-8")
    words = r"<!-- (.*?) -->"  # Matplotlib writes each text as outlines, whose places depend on its version
    assert re.findall(words, svg) == re.findall(words, stored) != []
    assert smallest_text(svg) >= 11
    assert svg.count("prefers-color-scheme") == 1
    width = float(svg.split('width="')[1].split("pt")[0])
    assert width <= PHONE
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_step_is_measured_without_hosts(tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "step", "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]
    assert data_parallel.main(arguments) == 0
    stored = json.loads((tmp_path / "data_parallel.json").read_text(encoding="utf-8"))
    for facts in stored["parts"]["step"]["steps"].values():
        step = Step(**facts)
        assert step.ready == sorted(step.ready)
        assert 0 < step.ready[0] <= step.ready[-1]
        assert len(step.ready) == len(step.nbytes)
        assert sum(step.nbytes) > 500_000
