"""AdamW over flat arrays, and clipping by the global norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from .autograd import mark_changed
from .backend.contract import Array
from .backend.select import Device, kernels_of, to_device
from .errors import InputError
from .nn.flat import FlatParameters
from .nn.module import Parameter


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), with PyTorch's semantics and defaults.

    Every parameter decays, biases and norms too.  One without a gradient is left alone, and its steps do not count.
    Raises InputError for a learning rate that is not positive and finite, and for other values out of range.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        _check("lr", lr, lr > 0, "> 0")
        for name, beta in zip(("beta1", "beta2"), betas, strict=True):
            _check(name, beta, 0 <= beta < 1, "in [0, 1)")
        _check("eps", eps, eps > 0, "> 0")
        _check("weight_decay", weight_decay, weight_decay >= 0, ">= 0")
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.flat = FlatParameters(parameters)
        zeros_like = self.flat.kernels.xp.zeros_like
        self.exp_avg: Array = zeros_like(self.flat.data)  # running mean of the gradient
        self.exp_avg_sq: Array = zeros_like(self.flat.data)  # running mean of its square
        self.steps = [0] * len(parameters)

    @property
    def parameters(self) -> list[Parameter]:
        return self.flat.parameters

    def step(self) -> None:
        """Update every parameter that has a gradient.  A graph made before cannot be walked back afterwards."""
        flat = self.flat
        mark_changed(flat.data)
        for members, part in list(flat.runs(self.steps)):
            self.steps[members] = [n + 1 for n in self.steps[members]]
            flat.kernels.adamw(
                flat.data[part],
                flat.grad[part],
                self.exp_avg[part],
                self.exp_avg_sq[part],
                step=self.steps[members.start],
                lr=self.lr,
                betas=self.betas,
                eps=self.eps,
                weight_decay=self.weight_decay,
            )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The settings, and for each parameter, in order, its steps and its two running means."""
        indices = range(len(self.parameters))
        return {
            "settings": {
                "lr": self.lr,
                "betas": list(self.betas),
                "eps": self.eps,
                "weight_decay": self.weight_decay,
            },
            "steps": list(self.steps),
            "exp_avg": [self.flat.view_of(self.exp_avg, i) for i in indices],
            "exp_avg_sq": [self.flat.view_of(self.exp_avg_sq, i) for i in indices],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, its settings included: the learning rate is the saved one.

        Raises InputError, and changes nothing, if the state is of other parameters.
        """
        self.check_state_dict(state)
        settings = state["settings"]
        self.lr, self.eps = float(settings["lr"]), float(settings["eps"])
        self.betas, self.weight_decay = tuple(settings["betas"]), float(settings["weight_decay"])
        self.steps = [int(n) for n in state["steps"]]
        device: Device = self.parameters[0].device
        for i in range(len(self.parameters)):
            self.flat.view_of(self.exp_avg, i)[...] = to_device(state["exp_avg"][i], device)
            self.flat.view_of(self.exp_avg_sq, i)[...] = to_device(state["exp_avg_sq"][i], device)

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise InputError if a state is of other parameters."""
        for name in ("exp_avg", "exp_avg_sq"):
            shapes = [tuple(a.shape) for a in state[name]]
            expected = [p.shape for p in self.parameters]
            if shapes != expected:
                raise InputError(f"optimizer: {name} has shapes {shapes[:3]}..., expected {expected[:3]}...")
        if len(state["steps"]) != len(self.parameters):
            raise InputError(f"optimizer: {len(state['steps'])} step counts for {len(self.parameters)} parameters")


def _check(name: str, value: float, allowed: bool, what: str) -> None:
    if not (allowed and isfinite(value)):
        raise InputError(f"{name}: {value} is not allowed; choose a finite number {what}")


def clip_grad_norm(parameters: Sequence[Parameter], max_norm: float) -> Array:
    """Scale all gradients down so that their norm, taken together, is at most max_norm; returns the norm before, ().

    As PyTorch's clip_grad_norm_ does, with 1e-6 added to the norm.  The result stays on the device: no waiting for it.
    Raises InputError for a max_norm that is not positive.
    """
    if not max_norm > 0:
        raise InputError(f"max_norm: {max_norm} is not allowed; choose a number > 0")
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        raise InputError("clip_grad_norm: no parameter has a gradient; call loss.backward() first")
    kernels = kernels_of(gradients[0])
    squares = kernels.xp.stack([kernels.squared_norm(g.reshape(-1)) for g in gradients])
    norm: Array = kernels.xp.sqrt(squares.sum())
    scale = kernels.xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for g in gradients:
        g *= scale
    return norm
