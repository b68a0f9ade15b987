"""record(): a tape of everything that is computed in a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from weakref import ref

import numpy as np

from ..autograd import Function, Gradient, Leaf, Node
from ..backend.contract import Array
from ..errors import InputError, did_you_mean
from ..nn.module import Module
from ..source_line import LAYERS, calling_line
from ..tensor import Tensor
from ..versions import arrays_in
from .module_paths import ModulePaths
from .operation import ModuleCall, Operation, Span
from .places import KINDS, Places
from .tape import Tape
from .watch import Recorded, Watcher, calls, watched

BEFORE = "before the tape began"


@contextmanager
def record(values: bool | Sequence[str] = False) -> Iterator[Tape]:
    """Record every operation that this thread or asyncio task runs in this block, and its backward.

    values              True keeps arrays of named places too, as tape[name].value and, after backward, .grad; or some
                        of their kinds only:
                        "embedding"   tok_emb.vectors (B, T, C)
                        "residual"    drop_emb.residual, the stream before the first block, and trf_blocks.0.residual
                                      and so on, after each one (B, T, C)
                        "attention"   trf_blocks.0.att.weights (B, H, T, T), before dropout; not with a KV cache
                        "mlp"         trf_blocks.0.ff.activations (B, T, 4C), after GELU
                        "logits"      out_head.logits (B, T, V)

    Times are the host's, by its clock, without the tape's own: on a GPU they are those of queueing kernels, and steps
    that a CUDA graph replays are not seen.  Outside such blocks nothing is checked, and nothing is slower.
    Attention weights, and the logits that GPTModel.loss never has in memory at once, are computed for the tape.
    Raises InputError for an unknown kind.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=1)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> with record(values=True) as tape:
    ...     model.loss([[1, 2, 3]], [[2, 3, 4]]).backward()
    >>> for operation in tape.operations[3:6]:  # print(tape) shows all of them, with times and source lines
    ...     print(operation.name, operation.path, operation.shape, operation.dtype, operation.kept)
    LayerNorm trf_blocks.0.norm1 (1, 3, 16) float32 216
    PackedLinear trf_blocks.0.att (1, 3, 48) float32 192
    CausalAttention trf_blocks.0.att (1, 3, 16) float32 792
    >>> weights = tape["trf_blocks.0.att.weights"]
    >>> weights.value[0, 1].round(2), weights.grad.shape
    (array([[1.  , 0.  , 0.  ],
           [0.47, 0.53, 0.  ],
           [0.41, 0.3 , 0.29]], dtype=float32), (1, 2, 3, 3))
    """
    recorder = _Recorder(Places(_kinds(values)))
    try:
        with watched(recorder):
            yield recorder.tape
    finally:
        recorder.tape.ms = recorder.now()


def _kinds(values: bool | Sequence[str]) -> Sequence[str]:
    if isinstance(values, bool):
        return KINDS if values else ()
    kinds = [values] if isinstance(values, str) else values
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"record: values has {kind!r}, which is not a kind of place{did_you_mean(kind, [*KINDS])}")
    return kinds


class _Recorder(Watcher):
    """Fills a tape, on a clock that stands still in its own bookkeeping."""

    def __init__(self, places: Places) -> None:
        self.places, self.tape = places, Tape(places=places.found)
        self._began, self._own = perf_counter(), 0.0
        self._by_order: dict[int, Operation] = {}  # operations by the order of their node, which no other has
        self._last: Operation | None = None  # whose backward ran last
        self._kept: dict[int, ref[Array]] = {}  # memory that is kept for backward, by id
        self._paths: dict[int, ModulePaths] = {}  # of each outermost module, by id

    def now(self) -> float:
        """Milliseconds since the tape began, without the tape's own."""
        return 1e3 * (perf_counter() - self._began - self._own)

    def forward(
        self,
        run: Callable[..., Recorded],
        op: type[Function],
        arrays: Sequence[Any],
        parents: Sequence[Node | None],
        params: Mapping[str, Any],
    ) -> Recorded:
        """Time an operation, and note what it is and keeps."""
        begin = self.now()
        recorded = run(op, arrays, parents, params)
        span, paused = self._since(begin), perf_counter()
        out, node = recorded
        paths = self._model_paths()
        owner = paths.of_operation(parents, calls())
        operation = self._noted(op.__name__, owner, arrays, out, span)
        if isinstance(node, Function):
            operation.kept = self._newly_kept(node, arrays, parents)
            self._by_order[node.order] = operation
        self.places.see_operation(op, arrays, params, recorded, paths.caller(calls()), owner)
        self._resume(paused)
        return recorded

    def backward(self, run: Callable[..., Sequence[Gradient]], node: Function, dy: Array) -> Sequence[Gradient]:
        """Time an operation's backward, and keep the gradients of places."""
        paused = perf_counter()
        operation = self._by_order.pop(node.order, None)
        if operation is None:
            shape, dtype = getattr(dy, "shape", ()), str(node.dtype)
            operation = Operation(type(node).__name__, "", (), shape, dtype, BEFORE)
            self.tape.operations.append(operation)
        self._last = operation
        self.places.see_backward(node, dy)
        self._resume(paused)
        begin = self.now()
        gradients = run(node, dy)
        operation.backward = self._since(begin)
        return gradients

    def deliver(self, run: Callable[..., None], *arguments: Any) -> None:
        """Add the time of a gradient's addition to that of the backward that it came from."""
        run(*arguments)
        if self._last is not None and self._last.backward is not None:
            before = self._last.backward
            self._last.backward = Span(before.begin, self.now() - before.begin)

    def call(self, run: Callable[..., Any], module: Module, *inputs: Any, **options: Any) -> Any:
        """Time the call of a module, and keep its result if that is a place."""
        begin = self.now()
        result = run(module, *inputs, **options)
        span, paused = self._since(begin), perf_counter()
        path = self._model_paths().caller(calls())
        self.tape.calls.append(ModuleCall(path, type(module).__name__, span))
        self.places.see_call(calls(), path, result)
        self._resume(paused)
        return result

    def other(self, run: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Any:
        """Time what is not an operation."""
        begin = self.now()
        result = run(name, *arguments, **options)
        span, paused = self._since(begin), perf_counter()
        out = result.data if isinstance(result, Tensor) else result
        self._noted(name, self._model_paths().caller(calls()), (), out, span)
        self._resume(paused)
        return result

    def _noted(self, name: str, path: str, arrays: Sequence[Any], out: Any, span: Span) -> Operation:
        inputs = tuple(getattr(array, "shape", ()) for array in arrays)
        shape, dtype = getattr(out, "shape", ()), str(getattr(out, "dtype", ""))
        operation = Operation(name, path, inputs, shape, dtype, calling_line(LAYERS), forward=span)
        self.tape.operations.append(operation)
        self.tape.on_gpu |= bool(dtype) and not isinstance(out, np.ndarray | np.generic)
        return operation

    def _since(self, begin: float) -> Span:
        return Span(begin, self.now() - begin)

    def _resume(self, paused: float) -> None:
        """End the bookkeeping that began at `paused`."""
        self._own += perf_counter() - paused

    def _model_paths(self) -> ModulePaths:
        """The paths of modules in the outermost one that is being called."""
        model = next((call.module for call in calls()), None)
        if id(model) not in self._paths:
            self._paths[id(model)] = ModulePaths(model)
        return self._paths[id(model)]

    def _newly_kept(self, node: Function, arrays: Sequence[Any], parents: Sequence[Node | None]) -> int:
        """Bytes of memory that a node keeps for its backward, and no earlier one of the tape, nor a parameter."""
        leaves = {id(_memory(a)) for a, parent in zip(arrays, parents, strict=True) if isinstance(parent, Leaf)}
        n = 0
        for array in arrays_in(node.saved):
            memory = _memory(array)
            known = self._kept.get(id(memory))
            if isinstance(array, np.generic) or id(memory) in leaves or (known is not None and known() is memory):
                continue
            self._kept[id(memory)] = ref(memory)
            n += memory.nbytes
        return n


def _memory(array: Any) -> Any:
    """The array whose memory this one is a view of, or the array itself."""
    while isinstance(base := getattr(array, "base", None), type(array)):
        array = base
    return array
