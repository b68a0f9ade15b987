"""Updates on a GPU replayed from a CUDA graph: small batches otherwise wait for Python to queue each kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..backend.contract import Array, HostArray
from ..backend.precision import precision
from ..backend.select import to_device, to_host
from ..gpt.model import GPTModel
from ..mask_recipe import MaskRecipe
from ..optim import AdamW
from ..rng import Generator, RandomStream
from ..versions import mark_changed
from .data import Batch

Note: TypeAlias = Callable[[str], None]
UpdateResult: TypeAlias = tuple[Array, Array | None]  # the loss (), and the gradient norm () if clipped
Kind: TypeAlias = tuple[tuple[tuple[int, ...], ...], float | None, str]

RUN_BEFORE = 2  # updates of a kind before it is recorded: they compile kernels and choose algorithms for the products
MOST_KINDS = 2  # recorded, each with memory of its own: an epoch's batches, and those before clipping begins


class Update(Protocol):
    """A function that takes an optimizer step on the mean loss of batches, clipped to the norm max_norm.

    It returns the loss, and the gradient norm if max_norm is not None.  An update that is watched is never replayed,
    since Python sees nothing of a replay.
    """

    def __call__(self, batches: Sequence[Batch], max_norm: float | None, watched: bool = False, /) -> UpdateResult: ...


class ReplayedUpdates:
    """Optimizer steps on the mean loss of batches, replayed where possible, with the bits they have without.

    gradients           function that zeroes the gradients, adds those of batches, and returns their mean loss ()
    note                function that is told, once, why updates are not replayed

    An update is recorded when its kind (shapes, max_norm, precision) comes up for the third time.  Its first replay is
    compared with the same update without replay, bit by bit; if they differ, or if CUDA cannot record it, none is
    replayed from then on.
    """

    def __init__(
        self, model: GPTModel, optimizer: AdamW, gradients: Callable[[Sequence[Batch]], Array], note: Note
    ) -> None:
        self.model, self.optimizer, self.gradients, self.note = model, optimizer, gradients, note
        self.seen: Counter[Kind] = Counter()
        self.recorded: dict[Kind, RecordedUpdate] = {}
        self.possible = True
        streams = {id(module.rng): module.rng for module in model.modules() if hasattr(module, "rng")}
        if len(streams) > 1:
            self._give_up("the layers draw from different random streams")
        elif not isinstance(model.rng, Generator):
            self._give_up("PyTorch's random numbers are drawn on the CPU")

    def __call__(self, batches: Sequence[Batch], max_norm: float | None, watched: bool = False) -> UpdateResult:
        """Take one step; see Update."""
        if watched:
            return self._run(batches, max_norm)
        kind = tuple(inputs.shape for inputs, _ in batches), max_norm, precision()
        if kind in self.recorded:
            return self.recorded[kind](batches)
        self.seen[kind] += 1
        if self.possible and self.seen[kind] > RUN_BEFORE and len(self.recorded) < MOST_KINDS:
            return self._record(kind, batches, max_norm)
        return self._run(batches, max_norm)

    def _run(self, batches: Sequence[Batch], max_norm: float | None) -> UpdateResult:
        loss = self.gradients(batches)
        return loss, self.optimizer.step(max_norm)

    def _record(self, kind: Kind, batches: Sequence[Batch], max_norm: float | None) -> UpdateResult:
        """Run an update, record it, and compare its replay from the same state with it; takes one step."""
        state = State(self.model.rng, self.optimizer)
        try:
            state.keep_arrays()
            expected = state.fingerprint(self._run(batches, max_norm))
            state.restore()
            recorded = RecordedUpdate(self.model, self.optimizer, self.gradients, batches, max_norm)
            state.restore()  # recording has advanced the host's part
            result = recorded(batches)
            if state.fingerprint(result) == expected:
                self.recorded[kind] = recorded
                return result
            why = "a replay had other bits than the update that was recorded"
        except (RuntimeError, MemoryError) as error:
            why = " ".join(str(error).split())
        state.restore()
        self._give_up(why)
        return self._run(batches, max_norm)

    def _give_up(self, why: str) -> None:
        self.possible = False
        self.recorded.clear()
        self.note(f"graph: updates are not replayed, which is slower for small batches: {why}")


class RecordedUpdate:
    """One update recorded as a CUDA graph, to be replayed with batches of the same shapes.

    Recording counts a step of the optimizer, and calls of the random stream, that nothing on the GPU has taken.
    """

    def __init__(
        self,
        model: GPTModel,
        optimizer: AdamW,
        gradients: Callable[[Sequence[Batch]], Array],
        batches: Sequence[Batch],
        max_norm: float | None,
    ) -> None:
        from ..backend.cuda.graph import StepGraph, free_unused_memory  # imports CuPy

        self.model, self.rng, self.optimizer = model, as_generator(model.rng), optimizer
        self.batches = [(model.checked_ids(x, "ids"), model.checked_ids(y, "targets")) for x, y in batches]
        self.numbers = to_device(optimizer.advance(), "cuda")

        def step() -> list[Array]:
            loss = gradients(self.batches)
            norm, scale = (None, None) if max_norm is None else optimizer.clip_scale(max_norm)
            optimizer.apply(self.numbers, scale)
            return [loss] if norm is None else [loss, norm]

        rng = self.rng
        first = rng.calls
        free_unused_memory()  # the update's arrays move from there to the graph's memory
        self.graph = StepGraph(step, MaskRecipe(rng.seed, rng.stream, first, first=0, threshold=0))
        self.mask_calls = rng.calls - first  # of an update

    def __call__(self, batches: Sequence[Batch]) -> UpdateResult:
        for (ids, targets), (x, y) in zip(self.batches, batches, strict=True):
            ids[...], targets[...] = self.model.checked_ids(x, "ids"), self.model.checked_ids(y, "targets")
        self.numbers[...] = to_device(self.optimizer.advance(), "cuda")
        results = self.graph.replay(self.rng.calls)
        self.rng.calls += self.mask_calls
        mark_changed(self.optimizer.flat.data)
        return results[0], results[1] if len(results) > 1 else None


class State:
    """The arrays and counts that an update changes, to be restored, and to be compared by their bits."""

    def __init__(self, rng: RandomStream, optimizer: AdamW) -> None:
        self.rng, self.optimizer = as_generator(rng), optimizer
        self.calls, self.steps = self.rng.calls, list(optimizer.steps)
        self.arrays: list[Any] = [optimizer.flat.data, optimizer.exp_avg, optimizer.exp_avg_sq]  # of CuPy
        self.kept: list[HostArray] = []

    def keep_arrays(self) -> None:
        """Keep the arrays, on the host: a GPU may have no memory for another copy."""
        self.kept = [to_host(array) for array in self.arrays]

    def restore(self) -> None:
        """Restore the host's part, and the arrays if they were kept."""
        for array, kept in zip(self.arrays, self.kept, strict=False):
            array.set(kept)  # in place, where an assignment would upload another array first
        self.rng.calls, self.optimizer.steps = self.calls, list(self.steps)

    def fingerprint(self, result: UpdateResult) -> list[int]:
        """Sums of the bits of the arrays now, and of an update's results, as integers.  Waits for the GPU."""
        arrays = [array for array in (*self.arrays, *result) if array is not None]
        return [int(array.reshape(-1).view(f"u{array.itemsize}").sum(dtype=np.uint64)) for array in arrays]


def as_generator(rng: RandomStream) -> Generator:
    """Narrow a stream's static type, where it is known to be the package's own."""
    assert isinstance(rng, Generator)
    return rng
