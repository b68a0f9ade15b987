"""Replayed updates compute what updates without replay do, bit for bit, on the stand-in and on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from standin.either import simulator_or_gpu
from standin.record import CUDARuntimeError, Record

from nanograd_gpt.backend.select import kernels_of, to_host
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.layers import Dropout
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.training import replay
from nanograd_gpt.training.layer_scales import with_layer_scales
from nanograd_gpt.training.loop import make_update
from nanograd_gpt.training.replay import ReplayedUpdates

CONFIG = {
    "vocab_size": 23,
    "context_length": 8,
    "emb_dim": 8,
    "n_heads": 2,
    "n_layers": 1,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
BATCHES = [np.random.default_rng(i).integers(0, 23, (2, 9)) for i in range(7)]
PAIRS = [(ids[:, :-1], ids[:, 1:]) for ids in BATCHES]
pytestmark = pytest.mark.slow  # kernels run on the simulator


@pytest.fixture(params=["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
def standin(request: pytest.FixtureRequest) -> Iterator[Record | None]:
    with simulator_or_gpu(request.param) as record:
        yield record


def trainer(rng: Any = None) -> tuple[GPTModel, AdamW]:
    model = GPTModel(CONFIG, rng=rng or Generator(7)).to("cuda").train()
    return model, AdamW(model.parameters(), lr=1e-2)


def run(note: Any, max_norm: float | None = 1.0, at_once: int = 1, rng: Any = None) -> tuple[Any, list[Any], GPTModel]:
    """Seven updates, the learning rate changing: the updates, what they returned, and the model."""
    model, optimizer = trainer(rng)
    update = make_update(model, optimizer, "cuda", note)
    results = []
    for i, _ in enumerate(PAIRS):
        optimizer.lr = 1e-2 / (i + 1)
        results += update([PAIRS[(i + j) % len(PAIRS)] for j in range(at_once)], max_norm)
    return update, [None if a is None else to_host(a) for a in results], model


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(("max_norm", "at_once"), [(1.0, 1), (None, 2)])
def test_replayed_updates_have_the_bits_of_others(max_norm: float | None, at_once: int) -> None:
    notes: list[str] = []
    update, replayed, model = run(notes.append, max_norm, at_once)
    assert (notes, len(update.recorded)) == ([], 1)
    _, expected, without = run(None, max_norm, at_once)
    assert all(np.array_equal(a, b) for a, b in zip(replayed, expected, strict=True))
    assert np.array_equal(
        to_host(model.trf_blocks[0].att.W_query.weight.data), to_host(without.trf_blocks[0].att.W_query.weight.data)
    )
    assert model.rng.state() == without.rng.state()


@pytest.mark.usefixtures("standin")
def test_updates_that_are_measured_are_not_replayed_and_have_the_same_bits() -> None:
    def train(every: int) -> tuple[list[Any], list[Any], int]:
        model, optimizer = trainer()
        update, losses, scales = make_update(model, optimizer, "cuda", pytest.fail), [], []
        for i in range(9):
            take = partial(update, [PAIRS[i % len(PAIRS)]], 1.0, watched := every > 0 and i % every == 0)
            (loss, norm), measured = with_layer_scales(model, take) if watched else (take(), None)
            losses += [float(loss), float(norm)]
            scales += [measured.event()] if measured else []
        return [*losses, *(to_host(p.data).tobytes() for p in model.parameters())], scales, len(update.recorded)

    (plain, _, recorded), (measured, scales, also) = train(0), train(3)
    assert plain == measured
    assert recorded == also == 1
    assert len(scales) == 3
    assert all(0 < value < 1 for event in scales for value in event["update_ratio"].values())
    assert all(event["activation_rms"].keys() == {"embeddings", "block 0"} for event in scales)


def test_a_replayed_update_is_one_launch_and_never_waits(standin: Record | None) -> None:
    if standin is None:
        pytest.skip("needs the simulator, which counts")
    update, _, _ = run(pytest.fail)
    standin.launches.clear()
    standin.syncs.clear()
    update(PAIRS[:1], 1.0)
    assert (standin.launches, standin.syncs) == (["graph"], [])
    assert len(standin.uploads) >= 3


@pytest.mark.usefixtures("standin")
def test_ids_are_checked_before_a_replay() -> None:
    update, _, _ = run(pytest.fail)
    ids, targets = PAIRS[0]
    with pytest.raises(InputError, match="reach outside the vocabulary"):
        update([(ids + 20, targets)], 1.0)


@pytest.mark.usefixtures("standin")
def test_kinds_beyond_the_second_are_not_recorded() -> None:
    model, optimizer = trainer()
    update = make_update(model, optimizer, "cuda", pytest.fail)
    for max_norm in (1.0, None, 2.0):
        for _ in range(4):
            update(PAIRS[:1], max_norm)
    assert len(update.recorded) == 2


@pytest.mark.usefixtures("standin")
def test_where_masks_are_drawn_on_the_host_nothing_is_replayed() -> None:
    notes: list[str] = []
    update, _, _ = run(notes.append, rng=TorchStream(1))
    assert not update.recorded
    why = "PyTorch's random numbers are drawn on the CPU"
    assert notes == [f"graph: updates are not replayed, which is slower for small batches: {why}"]


@pytest.mark.usefixtures("standin")
def test_a_mask_from_a_stream_that_no_layer_shows_is_found_while_recording() -> None:
    hidden = Generator(99)

    class Hiding(Dropout):
        def keep_mask(self, like: Any, shape: Any) -> Any:
            return kernels_of(like).keep_mask(hidden, shape, self.rate)

    model, optimizer = trainer()
    model.drop_emb = Hiding(0.1, rng=model.rng)
    notes: list[str] = []
    update = make_update(model, optimizer, "cuda", notes.append)
    for pair in PAIRS[:4]:
        update([pair], 1.0)
    assert notes[0].endswith("a mask is drawn from another random stream than the first")


@pytest.mark.usefixtures("standin")
def test_layers_with_streams_of_their_own_are_not_replayed_and_lose_nothing() -> None:
    def train(note: Any) -> GPTModel:
        model, optimizer = trainer()
        model.drop_emb = Dropout(0.1, rng=Generator(99))
        update = make_update(model, optimizer, "cuda", note)
        for pair in PAIRS[:5]:
            update([pair], 1.0)
        return model

    notes: list[str] = []
    tried, without = train(notes.append), train(None)
    assert notes[0].endswith("the layers draw from different random streams")
    for a, b in zip(tried.parameters(), without.parameters(), strict=True):
        assert np.array_equal(to_host(a.data), to_host(b.data))


def test_where_cuda_cannot_record_training_goes_on(standin: Record | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if standin is None:
        pytest.skip("needs the simulator, where CUDA can be made to fail")
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", lambda self: (_ for _ in ()).throw(CUDARuntimeError(2)))
    notes: list[str] = []
    _, tried, _ = run(notes.append)
    assert [note.rpartition(": ")[2] for note in notes] == ["out of memory"]
    monkeypatch.undo()
    _, expected, _ = run(None)
    assert all(np.array_equal(a, b) for a, b in zip(tried, expected, strict=True))


def test_a_replay_with_other_bits_is_not_used(standin: Record | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class WrongMasks(replay.RecordedUpdate):
        def __call__(self, batches: Any) -> Any:
            self.rng.calls += 1
            return super().__call__(batches)

    monkeypatch.setattr(replay, "RecordedUpdate", WrongMasks)
    notes: list[str] = []
    update, tried, _ = run(notes.append)
    assert isinstance(update, ReplayedUpdates)
    assert not update.recorded
    assert notes[0].endswith("a replay had other bits than the update that was recorded")
    monkeypatch.undo()
    _, expected, _ = run(None)
    assert all(np.array_equal(a, b) for a, b in zip(tried, expected, strict=True))
