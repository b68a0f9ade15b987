"""A tape of a model on CuPy's arrays, of the stand-in or the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from standin.either import simulator_or_gpu
from standin.record import Record
from tape.small import IDS, model_of

import nanograd_gpt as ng
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.training.loop import make_update


@pytest.fixture(params=["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
def standin(request: pytest.FixtureRequest) -> Iterator[Record | None]:
    with simulator_or_gpu(request.param) as record:
        yield record


@pytest.mark.parametrize("drop_rate", [0.0, 0.4])
def test_operations_and_places_are_those_of_the_cpu(standin: Record | None, drop_rate: float) -> None:
    def taped(device: Any) -> Any:
        model = model_of(drop_rate).to(device)
        with ng.record(values=True) as tape:
            model.loss(IDS, IDS).backward()
        return tape

    ours, theirs = taped("cuda"), taped("cpu")
    for a, b in zip(ours.operations, theirs.operations, strict=True):
        assert (a.name, a.path, a.inputs, a.shape, a.source) == (b.name, b.path, b.inputs, b.shape, b.source)
    for name in theirs.places:
        np.testing.assert_allclose(to_host(ours[name].value), theirs[name].value, atol=1e-5)
        np.testing.assert_allclose(to_host(ours[name].grad), theirs[name].grad, atol=1e-5)
    assert (ours.on_gpu, theirs.on_gpu) == (True, False)
    assert str(ours).endswith("host time: kernels are queued on the GPU, which may run them later")


def test_the_tape_does_not_make_the_host_wait(standin: Record | None) -> None:
    if standin is None:
        pytest.skip("needs the stand-in, which counts waits")
    model = model_of().to("cuda")
    ids = ng.Tensor(IDS).data
    waits = []
    for values in (None, False, True):
        standin.syncs.clear()
        if values is None:
            model.loss(ids, ids).backward()
        else:
            with ng.record(values=values):
                model.loss(ids, ids).backward()
        waits.append(list(standin.syncs))
    assert waits[0] == waits[1] == waits[2]


def test_what_is_read_off_a_model_is_on_the_host_and_that_of_the_cpu(standin: Record | None) -> None:
    here, there = model_of(), model_of().to("cuda")
    for look in (ng.attention_weights, ng.logit_lens, lambda *given: ng.token_attribution(*given, 3)):
        assert type(look(there, IDS)) is np.ndarray
        np.testing.assert_allclose(look(there, IDS), look(here, IDS), atol=1e-5)


@pytest.mark.slow  # kernels run on the simulator
@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("values", [False, True])
def test_updates_are_replayed_on_tape_with_the_same_bits(values: bool) -> None:
    def weights(taped: bool) -> tuple[Any, Any]:
        model = model_of(0.1).to("cuda").train()
        notes: list[str] = []
        update = make_update(model, ng.AdamW(model.parameters(), lr=1e-2), "cuda", notes.append)
        with ng.record(values=values) if taped else nullcontext() as tape:
            for _ in range(4):
                update([(IDS, IDS)], 1.0)
        assert (notes, len(update.recorded)) == ([], 1)  # type: ignore[attr-defined]  # it is a ReplayedUpdates
        return tape, [to_host(p.data) for p in model.parameters()]

    (tape, ours), (_, theirs) = weights(taped=True), weights(taped=False)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert len({o.path for o in tape.operations}) > 10
