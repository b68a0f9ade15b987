"""PyTorch's stream without PyTorch: what it drew (goldens/make_torch_stream_goldens.py), and what the book prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.sampling import Sampling, next_tokens
from nanograd_gpt.gpt.config import GPT_CONFIG_124M
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.rng.torch_stream import MCG31_MODULUS, MCG31_MULTIPLIER, box_muller, mcg31_states

PATH = Path(__file__).parents[1] / "goldens" / "torch_stream.npz"
SEEDS = (0, 123, 2**32 + 5, 2**63)
SHORT = 1000

Array = npt.NDArray[Any]
Draw = Callable[[TorchStream], Array]


def orders(g: TorchStream, n: int, shuffle: bool) -> Array:
    return np.stack([g.epoch_order(n, shuffle) for _ in range(3)])


def weights(rows: int, n: int) -> Array:
    """Whole numbers, some of them 0, in no order"""
    return (np.arange(rows * n).reshape(rows, n) * 7 % 11).astype(np.float32)


DRAWS: dict[str, Draw] = {
    "5 uniform": lambda g: g.uniform((5,)),
    "3 normal, of two pairs": lambda g: g.normal((3,)),
    "a uniform scalar between": lambda g: g.uniform(()),
    "2 normal, the first left over": lambda g: g.normal((2,)),
    "uniform in +-0.1": lambda g: g.uniform((3, 7), -0.1, 0.1),
    "uniform in 3 .. 10": lambda g: g.uniform((2, 3, 2), 3, 10),
    "uniform, a quarter rounded up": lambda g: g.uniform((50,), 1, 1 + 2**-22),
    "15 normal": lambda g: g.normal((15,)),
    "16 normal": lambda g: g.normal((16,)),
    "35 normal": lambda g: g.normal((5, 7)),
    "mask at 0.5": lambda g: g.keep_mask((6, 6), 0.5),
    "mask at 0.1": lambda g: g.keep_mask((2, 3, 20), 0.1),
    "1 normal, left over before the masks": lambda g: g.normal((1,)),
    "permutation of 1": lambda g: g.randperm(1),
    "permutation of 20": lambda g: g.randperm(20),
    "multinomial": lambda g: g.multinomial(weights(6, 9))[:, None],
    "orders, shuffled": lambda g: orders(g, 11, shuffle=True),
    "orders, as they stand": lambda g: orders(g, 5, shuffle=False),
    "many uniform": lambda g: g.uniform((1001, 300), -1, 1),
    "many normal": lambda g: g.normal((100_003, 3)),
    "a large mask": lambda g: g.keep_mask((4, 128, 129), 0.2),
    "a long permutation": lambda g: g.randperm(30_000),
    "the next number": lambda g: g.uniform((1,)),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
short = [draw for name, draw in DRAWS.items() if not {"many", "large", "long"} & {*name.split()}]


@pytest.fixture(scope="module")
def golden() -> dict[str, Array]:
    with np.load(PATH, allow_pickle=False) as file:
        return dict(file)


def hashed(array: Array) -> Array:
    return np.frombuffer(sha256(np.ascontiguousarray(array).data).digest(), dtype=np.uint8)


def assert_same_bits(ours: Array, theirs: Array) -> None:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes()


# What PyTorch drew


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_of_every_kind_in_one_stream_are_pytorchs_to_the_bit(seed: int, golden: dict[str, Array]) -> None:
    theirs = {name.partition("/")[2]: a for name, a in golden.items() if name.startswith(f"{seed}/")}
    assert list(theirs) == list(DRAWS)  # their order matters
    stream = TorchStream(seed)
    for name, draw in DRAWS.items():
        ours = draw(stream)
        assert_same_bits(ours if ours.size <= SHORT else hashed(ours), theirs[name])


@pytest.mark.slow
def test_slow_all_initial_weights_of_the_124m_model_are_pytorchs_to_the_bit(golden: dict[str, Array]) -> None:
    state = GPTModel(GPT_CONFIG_124M, rng=TorchStream(123)).book_state_dict()
    assert list(state) == golden["124M/names"].tolist()
    assert sum(a.size for name, a in state.items() if not name.endswith(".mask")) == 162_419_712
    different = [
        name
        for (name, array), theirs in zip(state.items(), golden["124M/sha256"], strict=True)
        if hashed(array).tolist() != theirs.tolist()
    ]
    assert different == []


# What is published


def test_the_first_uniform_numbers_of_seed_123_are_the_published_ones() -> None:
    numbers = [f"{x:.4f}" for x in TorchStream(123).uniform((6,))]
    assert numbers == ["0.2961", "0.5166", "0.2517", "0.6886", "0.0740", "0.8665"]


@pytest.mark.parametrize(
    ("dropout", "table"),
    [
        (
            "mt19937",
            [
                [2, 2, 0, 2, 2, 0],
                [0, 0, 0, 2, 0, 2],
                [2, 2, 2, 2, 0, 2],
                [0, 2, 2, 0, 0, 2],
                [0, 2, 0, 2, 0, 2],
                [0, 2, 2, 2, 2, 0],
            ],
        ),
        (
            "mcg31",
            [
                [2, 2, 2, 2, 2, 2],
                [0, 2, 0, 0, 0, 0],
                [0, 0, 2, 0, 2, 0],
                [2, 2, 0, 0, 0, 2],
                [2, 0, 0, 0, 0, 2],
                [0, 2, 0, 0, 0, 0],
            ],
        ),
    ],
)
def test_dropout_of_ones_gives_both_published_tables(dropout: Any, table: list[list[int]]) -> None:
    keep = TorchStream(123, dropout).keep_mask((6, 6), 0.5)
    assert (np.ones((6, 6)) * keep / (1 - 0.5)).tolist() == table


@pytest.mark.parametrize(
    ("temperature", "table"),
    [
        (1.0, [73, 0, 0, 582, 2, 0, 0, 343, 0]),
        (0.1, [0, 0, 0, 985, 0, 0, 0, 15, 0]),
        (5.0, [165, 75, 42, 239, 71, 46, 32, 227, 103]),
    ],
)
def test_a_thousand_words_are_sampled_as_often_as_the_book_prints(temperature: float, table: list[int]) -> None:
    logits = np.array([[4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79]], dtype=np.float32)
    stream = TorchStream(123)
    drawn = [int(next_tokens(logits, Sampling(temperature), stream)[0]) for _ in range(1000)]
    assert np.bincount(drawn, minlength=9).tolist() == table


def test_a_shuffled_loader_of_5_visits_them_in_the_published_orders() -> None:
    stream = TorchStream(123)
    assert [stream.epoch_order(5, shuffle=True).tolist() for _ in range(2)] == [[3, 1, 0, 2, 4], [0, 2, 3, 1, 4]]


# Seeds and state


@every_draw
@pytest.mark.parametrize("dropout", ["mt19937", "mcg31"])
def test_the_same_seed_twice_gives_the_same_bits_and_each_call_others(draw: Draw, dropout: Any) -> None:
    one, same = TorchStream(7, dropout), TorchStream(7, dropout)
    first, second = draw(one), draw(one)
    assert_same_bits(draw(same), first)
    assert_same_bits(draw(same), second)
    assert one.state() == same.state()
    assert first.size == 1 or draw is DRAWS["orders, as they stand"] or first.tolist() != second.tolist()


def test_seeding_anew_forgets_everything_drawn_before() -> None:
    stream = TorchStream(5)
    stream.normal((3,))  # one is left over
    stream.manual_seed(8)
    assert stream.state() == TorchStream(8).state()
    assert_same_bits(stream.normal((3,)), TorchStream(8).normal((3,)))


def test_only_the_lower_32_bits_of_a_seed_count() -> None:
    assert TorchStream(2**63 + 2**32 + 9).state() == TorchStream(9).state() != TorchStream(10).state()


@every_draw
def test_a_state_that_has_been_json_continues_the_same_numbers_after_draws_of_any_kind(draw: Draw) -> None:
    stream = TorchStream(3)
    draw(stream)
    state = json.loads(json.dumps(stream.state()))
    later = [f(stream) for f in (draw, *short)]
    for other in (TorchStream(99, "mcg31"), stream):
        other.set_state(state)
        assert other.state() == state
        for f, expected in zip((draw, *short), later, strict=True):
            assert_same_bits(f(other), expected)


@pytest.mark.parametrize("n", [0, 1, 622, 623, 624, 625, 1247, 1248])
def test_a_state_continues_from_anywhere_in_the_twisters_624_words(n: int) -> None:
    stream, other = TorchStream(3), TorchStream(4)
    stream.uniform((n,))
    other.set_state(json.loads(json.dumps(stream.state())))
    assert_same_bits(other.uniform((2000,)), stream.uniform((2000,)))


def test_the_second_normal_of_a_pair_waits_in_the_state() -> None:
    whole, halves = TorchStream(4), TorchStream(4)
    pair = whole.normal((2,))
    first = halves.normal((1,))
    other = TorchStream(5)
    other.set_state(halves.state())
    assert_same_bits(np.concatenate([first, other.normal((1,))]), pair)
    assert other.state() == whole.state()


def test_masks_continue_from_a_state_with_the_dropout_stream_they_had() -> None:
    stream, other = TorchStream(4, "mcg31"), TorchStream(5)
    stream.keep_mask((5,), 0.5)
    other.set_state(json.loads(json.dumps(stream.state())))
    assert_same_bits(other.keep_mask((50,), 0.3), stream.keep_mask((50,), 0.3))


def test_a_state_is_a_copy() -> None:
    stream = TorchStream(1)
    state = stream.state()
    stream.normal((700,))
    assert state == TorchStream(1).state() != stream.state()


# What is refused


@pytest.mark.parametrize("seed", [-1, 2**64, -(2**70)])
def test_a_seed_out_of_range_is_refused_when_made_and_when_seeded_anew(seed: int) -> None:
    for call in (TorchStream, TorchStream(1).manual_seed):
        with pytest.raises(InputError, match=rf"^seed: {seed} is not allowed; choose a whole number 0 \.\. 2\^64 - 1$"):
            call(seed)
    TorchStream(2**64 - 1).manual_seed(0)


@pytest.mark.parametrize("dropout", ["", "philox", "MT19937"])
def test_an_unknown_dropout_stream_is_refused_with_those_there_are(dropout: Any) -> None:
    with pytest.raises(InputError, match=f"^dropout stream: '{dropout}' is unknown; choose 'mt19937' or 'mcg31'$"):
        TorchStream(0, dropout)


@pytest.mark.parametrize("state", [Generator(1).state(), {}, {"key": [1] * 624, "pos": 3}], ids=lambda s: str(list(s)))
def test_another_streams_state_is_refused_and_changes_nothing(state: dict[str, Any]) -> None:
    stream = TorchStream(4)
    with pytest.raises(InputError, match=r"^random state: kind .* is not a TorchStream's"):
        stream.set_state(state)
    assert stream.state() == TorchStream(4).state()


def test_more_items_than_pytorch_shuffles_in_this_way_are_refused_before_anything_is_drawn() -> None:
    stream = TorchStream(4)
    with pytest.raises(InputError, match=r"^randperm: 214748364 items are too many"):
        stream.randperm(214_748_364)
    assert stream.state() == TorchStream(4).state()


# Edges


@pytest.mark.parametrize(("largest", "radius"), [(0, 0.0), (1 - 2**-24, 5.768108)])
def test_the_most_extreme_uniform_numbers_give_finite_normal_ones_and_0_without_a_sign(
    largest: float, radius: float
) -> None:
    for angle in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1 - 2**-24):
        numbers = np.empty(16, dtype=np.float32)
        box_muller(np.repeat(np.array([largest, angle], dtype=np.float32), 8), numbers)
        assert np.hypot(numbers[:8], numbers[8:]).tolist() == pytest.approx([radius] * 8, rel=1e-6)
        assert not np.signbit(numbers[numbers == 0]).any()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (15,), (17,), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("dropout", ["mt19937", "mcg31"])
def test_every_shape_is_filled_with_float32_numbers_or_with_a_mask(shape: tuple[int, ...], dropout: Any) -> None:
    stream = TorchStream(1, dropout)
    for numbers in (stream.uniform(shape, -2, 3), stream.normal(shape)):
        assert (numbers.shape, numbers.dtype) == (shape, np.float32)
        assert np.isfinite(numbers).all()
        assert len(np.unique(numbers)) == numbers.size
    mask = stream.keep_mask(shape, 0.5)
    assert (mask.shape, mask.dtype) == (shape, np.bool_)


@pytest.mark.parametrize("x", [1, 2, 12345, MCG31_MODULUS - 1])
def test_mkls_states_follow_its_recurrence_however_many_at_once(x: int) -> None:
    states = [x]
    for _ in range(1000):
        states.append(states[-1] * MCG31_MULTIPLIER % MCG31_MODULUS)
    for n in (0, 1, 2, 3, 64, 65, 1000):
        assert mcg31_states(x, n).tolist() == states[:n]


@pytest.mark.parametrize("draw", [0, MCG31_MODULUS])
def test_a_seed_of_0_which_mkls_generator_would_never_leave_is_taken_as_1(
    draw: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = []
    for first in (draw, 1):
        monkeypatch.setattr(TorchStream, "_uint32", lambda self, n, first=first: np.full(n, first, dtype=np.uint64))
        masks.append(TorchStream(0, "mcg31").keep_mask((100,), 0.5).tolist())
    assert masks[0] == masks[1]
    assert 30 < sum(masks[0]) < 70


@pytest.mark.parametrize(("low", "high"), [(1, 1 + 2**-22), (-1, -1 + 2**-22), (3, 10)])
def test_even_the_largest_uniform_number_is_below_high(
    low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchStream, "_uint32", lambda self, n: np.full(n, 2**32 - 1, dtype=np.uint64))
    assert TorchStream().uniform((2,), low, high).tolist() == [low, low]  # rounded up to high, it becomes low


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 5000])
def test_an_order_is_a_permutation_or_as_it_stands(n: int) -> None:
    stream = TorchStream(8)
    shuffled = stream.epoch_order(n, shuffle=True)
    assert shuffled.dtype == np.int64
    assert sorted(shuffled.tolist()) == list(range(n))
    assert n < 100 or shuffled.tolist() != list(range(n))
    assert stream.epoch_order(n, shuffle=False).tolist() == list(range(n))


@pytest.mark.parametrize("n", [2, 3, 700])
def test_an_order_takes_two_draws_for_its_pass_and_two_for_its_seed_whatever_the_length(n: int) -> None:
    for shuffle, draws in ((False, 2), (True, 4)):
        stream, plain = TorchStream(8), TorchStream(8)
        stream.epoch_order(n, shuffle)
        plain.uniform((draws,))
        assert stream.state() == plain.state()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dropout", ["mt19937", "mcg31"])
def test_a_mask_keeps_one_minus_the_rate_of_the_elements(rate: float, dropout: Any) -> None:
    keep = TorchStream(6, dropout).keep_mask((1000, 100), rate)
    assert abs(keep.mean() - (1 - rate)) <= 4 * np.sqrt(rate * (1 - rate) / keep.size)


def test_a_word_of_probability_0_is_never_drawn_not_even_by_a_draw_of_0(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[0, 0.3, 0.7, 0], [0, 0, 1, 0], [0.1, 0.1, 0.8, 0]], dtype=np.float32)
    stream = TorchStream(2)
    for _ in range(500):
        assert np.all(rows[np.arange(3), stream.multinomial(rows)] > 0)
    for others in (0.0, 0.9):  # and 0 for the first word
        units = np.array([0.0, others, others, others] * 3)
        monkeypatch.setattr(TorchStream, "_unit53", lambda self, n, units=units: units)
        assert np.all(rows[np.arange(3), stream.multinomial(rows)] > 0)


def test_a_multinomial_draws_a_number_for_each_probability_so_there_are_no_points_to_tell() -> None:
    stream = TorchStream(2)
    assert stream.multinomial_points(3) is None
    assert stream.state() == TorchStream(2).state()
