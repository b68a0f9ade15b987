"""Our own random numbers: the same for ever, resumable, independent of one another, and distributed as they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.rng import Generator, RandomStream, index_at

Draw = Callable[[RandomStream], Any]

PROBABILITIES = np.array([[0.1, 0.2, 0.0, 0.7], [0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=np.float32)
DRAWS: dict[str, Draw] = {
    "uniform": lambda g: g.uniform((3, 5), -1.0, 2.0),
    "normal": lambda g: g.normal((3, 5)),
    "keep_mask": lambda g: g.keep_mask((7, 9), 0.4),
    "multinomial": lambda g: g.multinomial(np.full((50, 8), 1 / 8)),
    "epoch_order": lambda g: g.epoch_order(30, shuffle=True),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """In standard deviations from its mean, which 4 exceeds about once in 10,000 times (Wilson and Hilferty 1931)."""
    freedom = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom)))


# Streams and their state


@every_draw
def test_one_seed_gives_one_sequence_and_each_call_other_numbers(draw: Draw) -> None:
    one, same = Generator(5, stream=2), Generator(5, stream=2)
    first, second = draw(one), draw(one)
    np.testing.assert_array_equal(draw(same), first)
    np.testing.assert_array_equal(draw(same), second)
    assert not np.array_equal(first, second)


@every_draw
def test_a_state_that_has_been_json_continues_where_it_was(draw: Draw) -> None:
    generator = Generator(2**64 - 1, stream=2**64 - 2)
    draw(generator)
    state = json.loads(json.dumps(generator.state()))
    later = [draw(generator) for _ in range(3)]
    for other in (Generator(), generator):
        other.set_state(state)
        assert other.state() == state
        for expected in later:
            np.testing.assert_array_equal(draw(other), expected)


def test_a_state_is_a_copy() -> None:
    generator = Generator(1)
    state = generator.state()
    generator.normal((3,))
    assert state == Generator(1).state() != generator.state()


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 0), (2, 0)), ((1, 0), (1, 1)), ((1, 2), (2, 1)), ((0, 0), (2**64 - 1, 0)), ((0, 1), (0, 2**63))],
    ids=["seeds", "streams", "seed and stream swapped", "first and last seed", "far streams"],
)
def test_streams_are_independent(a: tuple[int, int], b: tuple[int, int]) -> None:
    n = 20_000
    x, y = Generator(*a).normal((n,)), Generator(*b).normal((n,))
    assert np.mean(x == y) < 1e-3
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / sqrt(n)
    assert abs(np.corrcoef(x**2, y**2)[0, 1]) < 4 / sqrt(n)


def test_calls_are_independent_of_each_other() -> None:
    generator, n = Generator(3), 20_000
    x, y = generator.normal((n,)), generator.normal((n,))
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / sqrt(n)
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 4 / sqrt(n)


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 2**64), ("stream", -1), ("stream", 2**64)])
def test_a_seed_out_of_range_is_refused_by_name_and_value(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"^{name}: {value} is not allowed; choose a whole number 0 \.\. 2\^64 - 1"):
        Generator(**{name: value})
    Generator(**{name: 2**64 - 1}).normal((2,))


@pytest.mark.parametrize("state", [{"kind": "torch"}, {}, {"seed": 1, "stream": 0, "calls": 0}], ids=repr)
def test_another_streams_state_is_refused_and_changes_nothing(state: dict[str, Any]) -> None:
    generator = Generator(4)
    with pytest.raises(InputError, match="kind"):
        generator.set_state(state)
    assert generator.state() == Generator(4).state()


# Stored values: changing them would make old checkpoints continue differently


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda g: g.uniform((3,)), [0.14818823337554932, 0.6993489861488342, 0.7456908226013184]),
        (lambda g: g.normal((3,)), [-0.015332823619246483, 0.024294476956129074, -0.5661664009094238]),
        (lambda g: g.keep_mask((8,), 0.5), [True, False, True, False, True, False, True, True]),
        (lambda g: g.multinomial(np.full((6, 5), 0.2)), [0, 3, 3, 1, 2, 3]),
        (lambda g: g.epoch_order(8, shuffle=True), [7, 0, 6, 3, 4, 5, 1, 2]),
    ],
    ids=list(DRAWS),
)
def test_the_first_numbers_never_change(draw: Draw, expected: list[Any]) -> None:
    np.testing.assert_array_equal(draw(Generator(123, stream=4)), np.array(expected))


# Distributions


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.5, 0.5), (3.0, 10.0)])
def test_uniform_numbers_are_even_and_in_range(low: float, high: float) -> None:
    n, bins = 100_000, 50
    x = Generator(1).uniform((n // 10, 10), low, high)
    assert (x.shape, x.dtype) == ((n // 10, 10), np.float32)
    assert low <= x.min() < x.max() < high
    counts, _ = np.histogram(x, bins, (low, high))
    assert abs(chi_square(counts, np.full(bins, n / bins))) < 4
    assert x.mean(dtype=np.float64) == pytest.approx((low + high) / 2, abs=4 * (high - low) / sqrt(12 * n))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 1.0),
        (1.0, 2.0),
    ],
)
def test_even_the_largest_uniform_number_is_below_high(
    low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generator, "_bits", lambda self, n: np.full(n, 2**64 - 1, dtype=np.uint64))
    assert Generator().uniform((1,), low, high)[0] < high


def test_normal_numbers_have_the_normal_distribution_and_its_moments() -> None:
    n = 200_000
    x = Generator(2).normal((n,)).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 4 * sqrt(variance / n)
    edges = np.linspace(-3, 3, 41)
    cumulative = np.array([0, *(0.5 * (1 + erf(edge / sqrt(2))) for edge in edges), 1])
    counts = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    assert abs(chi_square(counts, n * np.diff(cumulative))) < 4
    half = n // 2  # cosines first, then the sines of the same pairs
    assert abs(np.corrcoef(x[:half], x[half:])[0, 1]) < 4 / sqrt(half)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (2, 0, 3)], ids=str)
def test_every_shape_is_filled_with_finite_float32_numbers(shape: tuple[int, ...]) -> None:
    for x in (Generator(1).normal(shape), Generator(1).uniform(shape)):
        assert isinstance(x, np.ndarray)
        assert (x.shape, x.dtype) == (shape, np.float32)
        assert np.isfinite(x).all()
        assert len(np.unique(x)) == x.size
    assert Generator(1).keep_mask(shape, 0.5).shape == shape


@pytest.mark.parametrize("bits", [0, 2**64 - 1], ids=["all bits 0", "all bits 1"])
def test_the_most_extreme_bits_give_finite_normal_numbers(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "_bits", lambda self, n: np.full(n, bits, dtype=np.uint64))
    assert np.isfinite(Generator().normal((4,))).all()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_mask_keeps_one_minus_the_rate_of_the_elements(rate: float) -> None:
    n = 100_000
    keep = Generator(6).keep_mask((n // 100, 100), rate)
    assert (keep.shape, keep.dtype) == ((n // 100, 100), bool)
    assert abs(keep.mean() - (1 - rate)) <= 4 * sqrt(rate * (1 - rate) / n) + 2**-17
    lag = np.corrcoef(keep.ravel()[1:], keep.ravel()[:-1])[0, 1] if 0 < rate < 1 else 0
    assert abs(lag) < 4 / sqrt(n)


def test_every_row_of_a_multinomial_follows_its_own_probabilities() -> None:
    n = 20_000
    rows = np.repeat(PROBABILITIES, n, axis=0)
    chosen = Generator(7).multinomial(rows)
    assert chosen.shape == (3 * n,)
    assert chosen.dtype == np.int64
    for k, probabilities in enumerate(PROBABILITIES):
        counts = np.bincount(chosen[k * n : (k + 1) * n], minlength=4)
        possible = probabilities > 0
        assert np.all(counts[~possible] == 0)
        if possible.sum() > 1:
            assert abs(chi_square(counts[possible], n * probabilities[possible].astype(np.float64))) < 4


@pytest.mark.parametrize("bits", [0, 2**64 - 1], ids=["the lowest point", "the highest point"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_at_either_end_a_multinomial_still_draws_a_possible_index(
    bits: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generator, "_bits", lambda self, n: np.full(n, bits, dtype=np.uint64))
    rows = np.array([[0, 0.3, 0.7, 0], [0, 0, 1, 0], [0.1, 0.1, 0.8, 0], [0, 1 / 3, 2 / 3, 0]], dtype=dtype)
    chosen = Generator().multinomial(rows)
    assert np.all(rows[np.arange(4), chosen] > 0)
    assert chosen.tolist() == ([1, 2, 0, 1] if bits == 0 else [2, 2, 2, 2])


def test_a_multinomials_points_are_the_numbers_it_draws() -> None:
    drawn, told = Generator(7, stream=3), Generator(7, stream=3)
    chosen, points = drawn.multinomial(PROBABILITIES), told.multinomial_points(len(PROBABILITIES))
    assert told.state() == drawn.state()
    np.testing.assert_array_equal(index_at(points, PROBABILITIES), chosen)


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_an_epochs_order_is_a_permutation_or_as_it_stands(n: int) -> None:
    generator = Generator(8)
    assert sorted(generator.epoch_order(n, shuffle=True)) == list(range(n))
    assert generator.epoch_order(n, shuffle=False).tolist() == list(range(n))


def test_every_item_comes_at_every_place_equally_often() -> None:
    generator, n, times = Generator(9), 5, 4000
    counts = np.zeros((n, n))
    for _ in range(times):
        counts[np.arange(n), generator.epoch_order(n, shuffle=True)] += 1
    assert all(abs(chi_square(row, np.full(n, times / n))) < 4 for row in counts)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_a_masks_recipe_tells_where_its_bits_are_and_counts_as_the_mask(rate: float) -> None:
    drawn, told = Generator(7, stream=3), Generator(7, stream=3)
    for g in (drawn, told):
        g.normal((5,))
    keep, recipe = drawn.keep_mask((3, 7), rate), told.mask_recipe(rate, 21)
    assert recipe is not None
    assert told.state() == drawn.state()
    source = np.random.Philox(key=[recipe.seed, recipe.stream], counter=[0, 0, recipe.call, 0])
    np.testing.assert_array_equal(keep, source.random_raw(6).view(np.uint16)[:21].reshape(3, 7) >= recipe.threshold)
