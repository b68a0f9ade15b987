"""The gradient of a prompt's loss with respect to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.select import to_host
from ..gpt.model import GPTModel
from ..grad_mode import enable_grad
from ..nn.inference_mode import inference_mode
from ..tape.recorder import record
from ..tape.token_vectors import TokenVectors
from ..tape.watch import watched


@dataclass
class LossGradient:
    """A prompt's mean loss in nats, and its gradient at the residual stream before the first block and after each."""

    loss: float
    stream: HostArray  # (L + 1, T - 1, C), the values
    gradient: HostArray  # (L + 1, T - 1, C); the last token has none, as what follows it is unknown

    def norms(self) -> HostArray:
        """The length of the gradient at each position (L + 1, T - 1)."""
        return np.linalg.norm(self.gradient, axis=-1)

    def slopes(self) -> HostArray:
        """The slope of the loss (L, T - 1) as what a block adds at a position is scaled, at its own scale, 1."""
        added = np.diff(self.stream.astype(np.float64), axis=0)
        return (added * self.gradient[1:]).sum(axis=-1)


def loss_gradient(model: GPTModel, ids: Ints) -> LossGradient:
    """ids (T,), T >= 2  ->  the LossGradient of predicting each token from those before it

    The model runs without dropout; its parameters' gradients are left alone.
    """
    places = ["drop_emb.residual", *(f"trf_blocks.{i}.residual" for i in range(model.config.n_layers))]
    with inference_mode(model), enable_grad(), record(values=["residual"]) as tape, watched(TokenVectors(model)):
        loss = model.loss(ids[None, :-1], ids[None, 1:])
        loss.backward()
    stream = np.stack([to_host(tape[name].value)[0] for name in places])
    gradient = np.stack([to_host(grad)[0] for name in places if (grad := tape[name].grad) is not None])
    return LossGradient(float(to_host(loss.data)), stream, gradient)
