"""A step's kernels recorded as a CUDA graph, which one call queues again, without Python's time for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import cupy
import numpy as np

from ...mask_recipe import MaskRecipe
from ..contract import Array
from .dropout import Origin, masks_from
from .gemm import make_workspace


@cache
def _stream(device: int) -> Any:
    """The stream that is recorded, as the default one cannot be; with its workspace, which outlives all graphs."""
    del device
    stream = cupy.cuda.Stream()
    make_workspace(stream.ptr)
    return stream


class StepGraph:
    """The kernels that `step` queues, recorded and not run, and the arrays that it returned, which replays write.

    step                function of no arguments.  Its arrays stay where they are, so what it reads on the device is
                        written in place before a replay; what it computes on the host is computed once.
    first_mask          MaskRecipe of the first dropout mask that it draws, or None if it draws none; replays begin at
                        another call

    Everything that step uses must have run before, since nothing can be compiled or loaded while recording.  Raises
    RuntimeError and MemoryError where CUDA cannot record it.
    """

    def __init__(self, step: Callable[[], Sequence[Array]], first_mask: MaskRecipe | None) -> None:
        self._mask_call: Array = cupy.zeros((), dtype=np.uint64)
        self._memory = cupy.cuda.MemoryPool()  # for this graph alone, so that no other array takes an address of its
        masks: AbstractContextManager[None] = nullcontext()
        if first_mask is not None:
            masks = masks_from(Origin(first_mask.seed, first_mask.stream, first_mask.call, self._mask_call))
        stream = _stream(cupy.cuda.runtime.getDevice())
        with cupy.cuda.using_allocator(self._memory.malloc), stream:
            stream.begin_capture()
            try:
                with masks:
                    self.results = step()
            finally:
                self._graph = stream.end_capture()

    def replay(self, mask_call: int | None = None) -> list[Array]:
        """Run the kernels with masks from this call on, if it draws any; returns copies of the results."""
        if mask_call is not None:
            self._mask_call.fill(mask_call)
        self._graph.launch()
        return [result.copy() for result in self.results]


def free_unused_memory() -> None:
    """Give the memory of freed arrays back to the GPU, for a graph that takes as much."""
    cupy.get_default_memory_pool().free_all_blocks()
