"""The masks that a GPU draws for the rows of one of several ranks: put together, they are the whole batch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backend.cuda.gpt_with_dropout import CONFIG
from cusim.checks import FLOAT32, caught, needs_compiler, planted, relative_error, same_in_every_order
from cusim.races import host_array
from standin.record import Record

from nanograd_gpt.backend.plain import dropout as plain
from nanograd_gpt.backend.select import to_device, to_host
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator, TorchStream

pytestmark = needs_compiler

OnGPU = Callable[..., Any]
SEED = 2**63 + 11, 2**64 - 1
WHOLE_BLOCKS = [(4, (1, 16)), (2, (2, 8, 37)), (3, (4, 1028))]  # ranks, and the shape of one's rows
BROKEN_BLOCKS = [(2, (3, 5)), (3, (1, 7, 9)), (4, (8, 3))]  # some of these parts begin within a block


def stream(part: tuple[int, int] = (0, 1), kind: type = Generator) -> Any:
    """A stream of which two masks were drawn."""
    rng = TorchStream(5) if kind is TorchStream else Generator(*SEED)
    for _ in range(2):
        rng.keep_mask((16, 3), 0.5)
    rng.part = part
    return rng


def whole_mask(ranks: int, shape: tuple[int, ...], rate: float, kind: type = Generator) -> Any:
    """The mask (ranks, *shape) that one process draws on the CPU."""
    return stream(kind=kind).keep_mask((ranks * shape[0], *shape[1:]), rate).reshape(ranks, *shape)


def masks(ranks: int, shape: tuple[int, ...], rate: float, kind: type = Generator) -> list[Any]:
    """Each rank's mask, as its kernels take it; the streams stay equal."""
    from nanograd_gpt.backend import cuda

    streams = [stream((rank, ranks), kind) for rank in range(ranks)]
    drawn = [cuda.keep_mask(rng, shape, rate) for rng in streams]
    alone = stream(kind=kind)
    alone.keep_mask((ranks * shape[0], *shape[1:]), rate)
    assert all(rng.state() == alone.state() for rng in streams)
    return drawn


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize(("ranks", "shape"), WHOLE_BLOCKS, ids=str)
def test_the_masks_of_all_ranks_are_one_processs(ranks: int, shape: tuple[int, ...], rate: float) -> None:
    from nanograd_gpt.backend.cuda.dropout import DeviceMask

    drawn = masks(ranks, shape, rate)
    assert all(isinstance(mask, DeviceMask) for mask in drawn)
    np.testing.assert_array_equal([to_host(mask.bools) for mask in drawn], whole_mask(ranks, shape, rate))


@pytest.mark.parametrize("added", [False, True], ids=["dropout", "dropout_add"])
@pytest.mark.parametrize(("ranks", "shape"), WHOLE_BLOCKS + BROKEN_BLOCKS, ids=str)
def test_all_ranks_drop_what_one_process_drops(ranks: int, shape: tuple[int, ...], added: bool, on_gpu: OnGPU) -> None:
    from nanograd_gpt.backend import cuda

    x, residual = np.random.default_rng(1).standard_normal((2, ranks, *shape)).astype(np.float32)

    def run() -> Any:
        dropped = []
        for rank, mask in enumerate(masks(ranks, shape, 0.5)):
            own = on_gpu(x[rank]), mask, 0.5
            dropped.append(cuda.dropout_add(*own, on_gpu(residual[rank])) if added else cuda.dropout(*own))
        return dropped

    got = np.stack(same_in_every_order(run))
    exact = whole_mask(ranks, shape, 0.5)
    expected = plain.dropout_add(x, exact, 0.5, residual) if added else plain.dropout(x, exact, 0.5)
    assert relative_error(got, expected) < FLOAT32


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(("ranks", "T"), [(2, 32), (3, 12), (2, 77), (4, 5)])
def test_attentions_bits_of_all_ranks_are_one_processs(ranks: int, T: int) -> None:
    from nanograd_gpt.backend.cuda.dropout import causal_bits

    shape, seen = (1, 2, T, T), np.tri(T, dtype=bool)  # words after a query's are not written
    words = same_in_every_order(lambda: [host_array(causal_bits(mask)) for mask in masks(ranks, shape, 0.5)])
    bits = [np.unpackbits(w.view(np.uint8), axis=-1, bitorder="little")[..., :T].astype(bool) for w in words]
    np.testing.assert_array_equal(np.stack(bits)[..., seen], whole_mask(ranks, shape, 0.5)[..., seen])


@pytest.mark.parametrize(("ranks", "shape"), BROKEN_BLOCKS, ids=str)
def test_a_part_that_begins_within_a_block_is_drawn_on_the_host(
    ranks: int, shape: tuple[int, ...], simulator: Record
) -> None:
    from nanograd_gpt.backend.cuda.dropout import DeviceMask, as_bools

    drawn = masks(ranks, shape, 0.5)
    from_host = [rank for rank in range(ranks) if rank * np.prod(shape) % 16]
    assert [rank for rank, mask in enumerate(drawn) if not isinstance(mask, DeviceMask)] == from_host
    assert len(simulator.uploads) == len(from_host) > 0
    assert simulator.launches == []
    np.testing.assert_array_equal([to_host(as_bools(mask)) for mask in drawn], whole_mask(ranks, shape, 0.5))


@pytest.mark.usefixtures("standin")
def test_pytorchs_masks_of_all_ranks_are_one_processs_too() -> None:
    drawn = masks(3, (2, 16), 0.5, TorchStream)
    np.testing.assert_array_equal([to_host(mask) for mask in drawn], whole_mask(3, (2, 16), 0.5, TorchStream))


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("T", [12, 7], ids=["whole blocks", "broken blocks"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)], ids=["float32", "float64"])
def test_a_gpts_losses_on_all_ranks_average_to_one_processs(dtype: Any, tolerance: float, T: int) -> None:
    ids = np.random.default_rng(1).integers(0, 31, (6, T + 1))

    def losses(device: Any, part: tuple[int, int]) -> Any:
        rng = Generator(*SEED)
        rng.part = part
        model = GPTModel(CONFIG, rng=rng).to(device, dtype).train()
        rows = to_device(np.split(ids, part[1])[part[0]], device)
        return np.array([float(model.loss(rows[:, :-1], rows[:, 1:]).data) for _ in range(2)])

    of_ranks = [losses("cuda", (rank, 3)) for rank in range(3)]
    np.testing.assert_allclose(np.mean(of_ranks, axis=0), losses("cpu", (0, 1)), rtol=tolerance)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("recipe.first + block", "block"),
        ("{seed, stream, origin ? *origin + call : call, first", "{seed, stream, call, 0"),
    ],
    ids=["the part's first block", "every part the first"],
)
def test_a_planted_bug_is_caught(right: str, wrong: str) -> None:
    from nanograd_gpt.backend.cuda.launch import FOLDER

    with planted(FOLDER / "philox.cuh", right, wrong), caught():
        test_the_masks_of_all_ranks_are_one_processs(2, (2, 8, 37), 0.5)
    with planted(FOLDER / "philox.cuh", right, wrong), caught():
        test_attentions_bits_of_all_ranks_are_one_processs(2, 32)
