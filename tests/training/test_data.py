"""Windows, batches, and the order of a pass."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from training.small import BYTES, TEXT, ascii_text, one_line, small_loader, verdict_path

from nanograd_gpt.errors import InputError
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer
from nanograd_gpt.training.corpus import split_text
from nanograd_gpt.training.data import DataLoader, GPTDatasetV1, create_dataloader_v1


def firsts(loader: DataLoader) -> list[int]:
    """First id of every window, in the order of one pass."""
    return [int(row[0]) for inputs, _ in loader for row in inputs]


# --- windows


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 9, 100])
@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 8, 9, 20, 21])
def test_windows_start_at_range_of_len_minus_max_length_by_stride(length: int, stride: int) -> None:
    dataset = GPTDatasetV1(ascii_text(length), BYTES, max_length=4, stride=stride)
    starts = list(range(0, length - 4, stride))
    assert len(dataset) == len(starts)
    assert [dataset[i][0].tolist() for i in range(len(dataset))] == [list(range(s, s + 4)) for s in starts]


@pytest.mark.parametrize(("length", "windows"), [(3, 0), (4, 0), (5, 1)])
def test_a_text_of_exactly_max_length_tokens_has_no_window(length: int, windows: int) -> None:
    assert len(GPTDatasetV1(ascii_text(length), BYTES, 4, 1)) == windows


@pytest.mark.parametrize("shuffle", [False, True])
def test_targets_are_the_inputs_one_token_later(shuffle: bool) -> None:
    ids = np.array(BYTES.encode(TEXT))
    for inputs, targets in small_loader(shuffle=shuffle, stride=3):
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        for window, target in zip(inputs, targets, strict=True):
            starts = [s for s in range(0, len(ids) - 8, 3) if (ids[s : s + 8] == window).all()]
            assert target.tolist() in [ids[s + 1 : s + 9].tolist() for s in starts]


def test_end_of_text_is_one_token_in_a_dataset() -> None:
    dataset = GPTDatasetV1("ab<|endoftext|>cd", BYTES, 4, 1)
    assert dataset[0][0].tolist() == [97, 98, 256, 99]


# --- batches


@pytest.mark.parametrize(
    ("windows", "batch_size", "drop_last", "sizes"),
    [
        (0, 2, True, []),
        (0, 2, False, []),
        (1, 2, True, []),
        (1, 2, False, [1]),
        (2, 2, True, [2]),
        (2, 2, False, [2]),
        (5, 2, True, [2, 2]),
        (5, 2, False, [2, 2, 1]),
        (5, 5, False, [5]),
        (5, 6, True, []),
        (5, 6, False, [5]),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_short_last_batch_is_dropped_or_kept_and_len_counts_the_batches(
    windows: int, batch_size: int, drop_last: bool, sizes: list[int], shuffle: bool
) -> None:
    dataset = GPTDatasetV1(ascii_text(windows + 4 if windows else 0), BYTES, 4, 1)
    loader = DataLoader(dataset, batch_size, shuffle, drop_last, rng=Generator())
    assert [inputs.shape for inputs, _ in loader] == [(n, 4) for n in sizes]
    assert len(loader) == len(sizes)


def test_an_unshuffled_pass_keeps_the_order_of_the_text_and_draws_nothing() -> None:
    loader = small_loader(ascii_text(41), shuffle=False)
    before = loader.rng.state()
    assert firsts(loader) == firsts(loader) == [0, 8, 16, 24, 32]
    assert loader.rng.state() == before


def test_a_shuffled_pass_visits_every_window_once() -> None:
    loader = small_loader(ascii_text(121), batch_size=1)
    assert sorted(firsts(loader)) == list(range(0, 113, 8)) != firsts(loader)


def test_every_shuffled_pass_has_an_order_of_its_own() -> None:
    loader = small_loader(ascii_text(121), batch_size=1)
    passes = [firsts(loader) for _ in range(6)]
    assert len(set(map(tuple, passes))) == 6


def test_the_same_seed_gives_the_same_passes_and_another_seed_others() -> None:
    one, same, other = (small_loader(ascii_text(121), seed=seed) for seed in (3, 3, 4))
    for _ in range(3):
        order = firsts(one)
        assert order == firsts(same) != firsts(other)


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_batches_of_an_order_can_be_entered_at_any_batch(first: int) -> None:
    loader = small_loader(ascii_text(121), batch_size=5)
    order = loader.draw_order()
    whole, rest = list(loader.batches(order)), list(loader.batches(order, first))
    assert len(whole) == 3
    assert len(rest) == 3 - first
    for expected, batch in zip(whole[first:], rest, strict=True):
        np.testing.assert_array_equal(batch, expected)


# --- create_dataloader_v1, and the book's loaders


def test_the_defaults_are_the_books() -> None:
    parameters = inspect.signature(create_dataloader_v1).parameters
    assert {name: p.default for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY} == {
        "txt": inspect.Parameter.empty,
        "batch_size": 4,
        "max_length": 256,
        "stride": 128,
        "shuffle": True,
        "drop_last": True,
        "num_workers": 0,
    }


def test_gpt2s_tokenizer_is_the_default() -> None:
    text = "Every effort moves you, and every word is one token more or less."
    (inputs, _), *_ = create_dataloader_v1(text, 1, max_length=4, stride=4, shuffle=False)
    assert inputs.tolist() == [get_tokenizer("gpt2").encode(text)[:4]]


def test_the_books_loaders_hold_9_training_batches_and_1_of_validation() -> None:
    text = verdict_path().read_text(encoding="utf-8")
    assert len(text) == 20_479
    assert len(get_tokenizer("gpt2").encode(text)) == 5_145
    train, val, _ = split_text(text)
    loaders = [
        create_dataloader_v1(part, batch_size=2, max_length=256, stride=256, shuffle=is_train, drop_last=is_train)
        for part, is_train in ((train, True), (val, False))
    ]
    shapes = [[(inputs.shape, targets.shape) for inputs, targets in loader] for loader in loaders]
    assert shapes == [[((2, 256), (2, 256))] * 9, [((2, 256), (2, 256))]]
    assert [sum(inputs.size for inputs, _ in loader) for loader in loaders] == [4_608, 512]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("batch_size", "max_length", "stride") for value in (0, -1)] + [("num_workers", 1)],
)
def test_sizes_below_1_and_workers_are_refused(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"{name}.*{value}") as error:
        create_dataloader_v1(TEXT, tokenizer=BYTES, **{name: value})  # type: ignore[arg-type]  # the wrong value is what is tested
    one_line(error)


def test_a_pass_that_is_left_early_does_not_change_the_next() -> None:
    left, whole = small_loader(seed=5), small_loader(seed=5)
    next(iter(left))
    list(whole)
    assert firsts(left) == firsts(whole)
