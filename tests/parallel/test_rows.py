"""Rows: each rank has its part of a batch and of its masks; together they are the whole, in its order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from parallel.trainings import SMALL, TEXT
from training.small import one_line, small_loader

from nanograd_gpt.errors import InputError
from nanograd_gpt.parallel.ranks import Alone
from nanograd_gpt.rng import Generator, RandomStream, TorchStream
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run

STREAMS: list[Callable[[], RandomStream]] = [
    lambda: Generator(7, 3),
    lambda: TorchStream(7),
    lambda: TorchStream(7, "mcg31"),
]


@pytest.mark.parametrize("new", STREAMS)
@pytest.mark.parametrize("of", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(12, 5), (12, 2, 3, 3), (24,), (12, 0)])
def test_the_parts_of_a_mask_are_the_whole_mask(
    new: Callable[[], RandomStream], of: int, shape: tuple[int, ...]
) -> None:
    whole, parts = new(), []
    before = (12, 7)
    whole.keep_mask(before, 0.5)
    expected = whole.keep_mask(shape, 0.3)
    for which in range(of):
        stream = new()
        stream.part = which, of
        stream.keep_mask((before[0] // of, *before[1:]), 0.5)
        parts.append(stream.keep_mask((shape[0] // of, *shape[1:]), 0.3))
        assert stream.state() == whole.state()
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("new", STREAMS)
def test_all_other_numbers_are_the_same_for_each_part(new: Callable[[], RandomStream]) -> None:
    whole, part = new(), new()
    part.part = 1, 2
    for stream in (whole, part):
        stream.keep_mask((4 if stream is whole else 2, 3), 0.5)
    np.testing.assert_array_equal(whole.normal((20,)), part.normal((20,)))
    np.testing.assert_array_equal(whole.epoch_order(9, True), part.epoch_order(9, True))
    np.testing.assert_array_equal(whole.uniform((5,)), part.uniform((5,)))


@pytest.mark.parametrize("size", [32, 33, 48])
def test_the_recipe_of_a_parts_mask_is_its_place_in_the_whole_or_none(size: int) -> None:
    drawn, told = Generator(7, 3), Generator(7, 3)
    drawn.part = told.part = 1, 2
    keep, recipe = drawn.keep_mask((size,), 0.3), told.mask_recipe(0.3, size)
    if size % 16:
        assert recipe is None
        assert told.calls == 0  # keep_mask is to be called
        return
    assert recipe is not None
    counter = [recipe.first, 0, recipe.call, 0]
    source = np.random.Philox(key=[recipe.seed, recipe.stream], counter=counter)
    np.testing.assert_array_equal(keep, source.random_raw(size // 4).view(np.uint16) >= recipe.threshold)


@pytest.mark.parametrize("of", [1, 2, 3, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_parts_of_each_batch_are_the_whole_batch_also_of_a_short_last_one(of: int, shuffle: bool) -> None:
    loaders = [small_loader(shuffle=shuffle, batch_size=12) for _ in range(of + 1)]
    for which, loader in enumerate(loaders[1:]):
        loader.part = which, of
    for whole, *parts in zip(*loaders, strict=True):
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([part[i] for part in parts]), whole[i])


class Ranks(Alone):
    """Several, as far as a run's construction is concerned."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.part = 0, size


def test_a_batch_that_the_ranks_cannot_divide_is_refused() -> None:
    config = preset("tiny").replace({**SMALL, "batch_size": 10})
    with pytest.raises(InputError) as error:
        Run(config, "cpu", text=TEXT, ranks=Ranks(4))
    assert one_line(error) == (
        "batch_size: 10 rows cannot be divided equally among 4 ranks; give --batch-size 12, or start a number of ranks "
        "that divides 10"
    )
    Run(config, "cpu", text=TEXT, ranks=Ranks(5))
