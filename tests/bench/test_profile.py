"""The profile adds up, counts calls and work correctly, and restores everything it patches."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from nanograd_gpt import GPTModel, autograd
from nanograd_gpt.autograd import Function
from nanograd_gpt.backend import cpu
from nanograd_gpt.bench.costs import Cost, cost_of, cost_of_new_arrays
from nanograd_gpt.bench.machine import Machine
from nanograd_gpt.bench.profile import KERNELS, Entry, Profile, profiled_step, record
from nanograd_gpt.bench.step import TrainStep, random_batch
from nanograd_gpt.bench.table import COLUMNS, OVERHEAD, profile_cells, profile_metadata
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.tables import aligned

CONFIG = GPTConfig(vocab_size=31, context_length=8, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.1)
B, T, C, V, L = 3, 8, 12, 31, 2
N = B * T


@pytest.fixture
def step() -> TrainStep:
    return TrainStep(GPTModel(CONFIG), random_batch(CONFIG, B, T))


@pytest.fixture
def profile(step: TrainStep) -> Profile:
    with record(step.model) as profile:
        step.run()
    return profile


def test_entries_and_overhead_make_the_whole(profile: Profile) -> None:
    parts = sum(entry.seconds for entry in profile.entries.values())
    assert parts + profile.overhead == pytest.approx(profile.seconds, rel=1e-12)
    assert 0 < profile.overhead < profile.seconds
    assert 0 < profile.overhead_share < 1
    assert all(entry.seconds > 0 for entry in profile.entries.values())


def test_calls_are_counted(profile: Profile) -> None:
    calls = {name: entry.calls for name, entry in profile.entries.items()}
    assert calls["layer_norm"] == calls["layer_norm_backward"] == 2 * L + 1
    assert calls["causal_attention"] == calls["causal_attention_backward"] == L
    assert calls["linear_cross_entropy"] == calls["adamw"] == 1
    assert calls["random masks"] == 1 + 3 * L  # after the embeddings; attention's and two shortcuts' in each block


def test_what_is_no_kernel_of_the_contract_has_its_own_kind(profile: Profile) -> None:
    kinds = {entry.kind: [] for entry in profile.entries.values()}
    for name, entry in profile.entries.items():
        kinds[entry.kind].append(name)
    assert set(kinds["kernel"]) <= set(KERNELS)
    assert kinds["random"] == ["random masks"]
    assert "Add" in kinds["arithmetic"]


def test_the_matrix_products_are_those_of_the_formula(profile: Profile) -> None:
    products = (4 + 8) * C * C * N * L + N * C * V  # Q, K, V and the projection; up and down again; the head
    seen = 2 * B * T * (T + 1) // 2 * C * L
    assert sum(entry.flops for entry in profile.entries.values()) == 3 * 2 * (products + seen)


def test_a_step_is_the_same_while_it_is_recorded() -> None:
    losses = []
    for watched in (False, True):
        step = TrainStep(GPTModel(CONFIG), random_batch(CONFIG, B, T))
        if watched:
            with record(step.model):
                losses.append([step.run(), step.run()])
        else:
            losses.append([step.run(), step.run()])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_all_is_as_before(step: TrainStep, fails: bool) -> None:
    def doorways() -> list[object]:
        operations = [vars(op).get(name) for op in Function.__subclasses__() for name in ("forward", "backward")]
        return [*(getattr(cpu, name) for name in KERNELS), *operations, autograd.accumulate_grad]

    before = doorways()
    if fails:
        with pytest.raises(ZeroDivisionError), record(step.model):
            raise ZeroDivisionError
    else:
        with record(step.model):
            assert doorways() != before
    assert all(a is b for a, b in zip(before, doorways(), strict=True))
    assert "keep_mask" not in vars(step.model.rng)


def test_of_several_rounds_the_median_one_is_kept(step: TrainStep, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([Profile(3.0), Profile(1.0), Profile(2.0)])
    monkeypatch.setattr("nanograd_gpt.bench.profile.record", lambda model: nullcontext(next(rounds)))
    assert profiled_step(step, 3).seconds == 2.0


# --- the work in a call


def test_the_work_of_a_known_linear_layer() -> None:
    x, weight, bias = np.ones((2, 5, 3), np.float32), np.ones((7, 3), np.float32), np.ones(7, np.float32)
    y = cpu.linear(x, weight, bias)
    assert cost_of("linear", (x, weight, bias), {}, y) == Cost(2 * 10 * 3 * 7, 4 * (30 + 21 + 7 + 70))
    work = cost_of("linear_backward", (y, x, weight, None, None, True), {}, x)
    assert work.flops == 2 * 10 * 3 * 7


def test_adamw_reads_four_arrays_and_writes_three() -> None:
    arrays = [np.ones(10, np.float32)] * 4
    assert cost_of("adamw", arrays, {"lr": 0.1}, None) == Cost(0, 7 * 40)


def test_an_embedding_moves_its_rows_alone() -> None:
    weight, ids = np.ones((1000, 4), np.float32), np.array([1, 2, 3])
    assert cost_of("embedding", (weight, ids), {}, weight[ids]) == Cost(0, 2 * 3 * 16)


def test_a_view_costs_nothing_and_a_new_array_its_inputs_too() -> None:
    x = np.ones((2, 3), np.float32)
    assert cost_of_new_arrays((x,), x.reshape(6)[1:]) == Cost(0, 0)
    assert cost_of_new_arrays((x,), (x, None)) == Cost(0, 0)
    assert cost_of_new_arrays((x, x), x + x) == Cost(0, 3 * 24)


# --- the table


def test_the_table_has_a_line_for_each_entry_and_adds_up(profile: Profile) -> None:
    facts = profile_metadata(profile, Machine(1e9, 1e9))
    rows = profile_cells(facts)
    assert [row[0] for row in rows] == [*(e.name for e in profile.longest_first()), OVERHEAD, "total"]
    shares = [float(row[4].rstrip("%")) for row in rows]
    assert sum(shares[:-1]) == pytest.approx(100, abs=0.05 * len(rows))
    lines = aligned([COLUMNS, *rows])
    assert len(lines) == len(rows) + 1
    assert lines[0].startswith("what ")


@pytest.mark.parametrize(
    ("flops", "n_bytes", "shown"),
    [
        (0.0, 1e6, "1.00"),
        (0.0, 4e6, "cached"),
        (1e6, 0.0, "1.00"),
        (3e6, 0.0, "2.00"),
        (3e6, 4e6, "2.00"),
        (0.0, 0.0, ""),
    ],
    ids=["memory", "cached", "product", "faster product", "cached product", "random"],
)
def test_at_best_is_never_above_the_measured_time(flops: float, n_bytes: float, shown: str) -> None:
    entry = Entry("x", "kernel", calls=1, seconds=0.002, flops=flops, bytes=n_bytes)
    rows = profile_cells(profile_metadata(Profile(0.004, {"x": entry}), Machine(1e9, 1e9)))
    assert rows[0][-1] == shown
    assert rows[-1][-1] == ("2.00" if shown == "cached" else shown or "0.00")


def test_the_rate_of_products_is_the_highest_one_seen() -> None:
    entries = {name: Entry(name, "kernel", 1, 0.002, flops, 0.0) for name, flops in (("slow", 2e6), ("fast", 8e6))}
    facts = profile_metadata(Profile(0.004, entries), Machine(1e9, 1e9))
    assert facts["machine"] == {"flops_per_second": 4e9, "bytes_per_second": 1e9}
    assert [entry["lower_bound"] for entry in facts["entries"]] == [0.0005, 0.002]


def test_the_floor_is_the_slower_of_product_and_memory() -> None:
    machine = Machine(flops_per_second=100.0, bytes_per_second=10.0)
    assert machine.lower_bound(200, 10) == 2.0
    assert machine.lower_bound(200, 40) == 4.0
