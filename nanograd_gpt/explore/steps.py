"""The steps of a forward pass: what each module adds to the residual stream, attention weights, MLP activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..nn.module import Module
from ..tape.recorder import record
from ..tape.watch import Watcher, watched

BEFORE = ("tok_emb", "pos_emb", "drop_emb")  # the steps before the first block; the last is the sum of the others
OF_A_BLOCK = ("norm1", "att", "norm2", "ff", "")  # the last is the stream after the block


@dataclass
class Steps:
    """The arrays of a forward pass, on the host."""

    vectors: dict[str, HostArray]  # (T, C) by the module's path, whose result it is
    attention: HostArray  # (L, H, T, T)
    activations: HostArray  # (L, T, 4C), after GELU


def step_names(n_layers: int) -> list[str]:
    """The paths of the modules whose results are the steps, in the order of the forward pass."""
    blocks = [f"trf_blocks.{i}{name and '.'}{name}" for i in range(n_layers) for name in OF_A_BLOCK]
    return [*BEFORE, *blocks]


def forward_steps(model: GPTModel, ids: Ints) -> Steps:
    """ids (T,)  ->  the Steps of a forward pass without dropout

    Raises InputError for ids that are too long or out of range.
    """
    results = _Results(model)
    with inference_mode(model), record(values=["attention", "mlp"]) as tape, watched(results):
        model.hidden_states(ids[None])
    blocks = range(model.config.n_layers)
    vectors = {name: _row(results.of[name], len(ids)) for name in step_names(model.config.n_layers)}
    attention = np.stack([to_host(tape[f"trf_blocks.{i}.att.weights"].value)[0] for i in blocks])
    activations = np.stack([to_host(tape[f"trf_blocks.{i}.ff.activations"].value)[0] for i in blocks])
    return Steps(vectors, attention, activations)


def _row(vectors: Any, T: int) -> HostArray:
    """(1, T, C), or (T, C) of positions, which have no batch  ->  (T, C) on the host"""
    return to_host(vectors).reshape(T, -1)


class _Results(Watcher):
    """Keeps the results of the modules that are steps."""

    def __init__(self, model: GPTModel) -> None:
        modules: dict[str, Module] = {name: getattr(model, name) for name in BEFORE}
        for i, block in enumerate(model.trf_blocks):
            for name in OF_A_BLOCK:
                modules[f"trf_blocks.{i}{name and '.'}{name}"] = getattr(block, name) if name else block
        self.name_of = {id(module): name for name, module in modules.items()}
        self.of: dict[str, Any] = {}

    def call(self, run: Callable[..., Any], module: Module, *inputs: Any, **options: Any) -> Any:
        """Call a module, and keep its result if it is a step."""
        result = run(module, *inputs, **options)
        if name := self.name_of.get(id(module)):
            self.of[name] = result.data
        return result
