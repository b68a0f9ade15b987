"""Modules: objects whose attributes are parameters and other modules.  A name is a path of attribute names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from ..autograd import Leaf
from ..backend.contract import Array
from ..backend.select import Device, device_of, to_device
from ..errors import InputError
from ..tensor import Tensor
from ..versions import mark_changed


class Parameter(Tensor):
    """A Tensor that a module owns and training changes: always a leaf."""

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        super().__init__(data, requires_grad=True)


class Module:
    """A part of a network.  A subclass gives `forward`; assigning a Parameter or a Module to an attribute names it.

    What stands in a list or a dict is not found, as in PyTorch; Sequential(*layers) holds several.
    """

    training: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a Tensor in place of a Parameter, which would leave the network without a word."""
        old = vars(self).get(name)
        if isinstance(old, Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
            where = f"{type(self).__name__}.{name}"
            raise TypeError(f"{where} is a Parameter and cannot become a Tensor; write to {name}.data[...] instead")
        super().__setattr__(name, value)

    def named_children(self) -> Iterator[tuple[str, Module | Parameter]]:
        return ((name, part) for name, part in vars(self).items() if isinstance(part, Module | Parameter))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, by the first of its names, in the order of assignment: PyTorch's names and order."""
        seen = set()
        for name, p in self._names():
            if id(p) not in seen:
                seen.add(id(p))
                yield name, p

    def _names(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        for name, part in self.named_children():
            if isinstance(part, Parameter):
                yield prefix + name, part
            else:
                yield from part._names(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Every parameter once, even one that has several names."""
        return [p for _, p in self.named_parameters()]

    def modules(self) -> Iterator[Module]:
        """This module and all within."""
        yield self
        for _, part in self.named_children():
            if isinstance(part, Module):
                yield from part.modules()

    @property
    def n_parameters(self) -> int:
        """The number of elements in all parameters."""
        return sum(p.size for p in self.parameters())

    @property
    def device(self) -> Device:
        """The device of the parameters."""
        return device_of(next(self.named_parameters())[1].data)

    def train(self, mode: bool = True) -> Self:
        """Training mode, with dropout; mode=False is eval()."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode, without dropout."""
        return self.train(False)

    def to(self, device: Device | None = None, dtype: Any = None) -> Self:
        """Move to a device or change the dtype; make the optimizer afterwards.  What moves forgets its gradient.

        Raises InputError for a device that is not there, TypeError for a dtype that is not floating-point.
        """
        if dtype is not None and np.dtype(dtype).kind not in "fc":
            raise TypeError(f"to: a parameter holds floating-point numbers, and not {np.dtype(dtype)}")
        for p in self.parameters():
            data = p.data if device is None else to_device(p.data, device)
            data = data if dtype is None else data.astype(dtype, copy=False)
            if data is not p.data:
                p.data, p.node = data, Leaf(data.dtype)  # a new leaf: the old one's gradient and its memory stay behind
        return self

    def state_dict(self) -> dict[str, Array]:
        """Name -> array: the parameters themselves, not copies."""
        return {name: p.data for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy arrays into the parameters of the same names; all of them or, with an InputError, none."""
        self.check_state_dict(state)
        for name, p in self.named_parameters():
            p.data[...] = to_device(state[name], device_of(p.data))
            mark_changed(p.data)

    def check_state_dict(self, state: Mapping[str, Array]) -> None:
        """Raise InputError, with its name, for an array that is missing, unknown, or of another shape or kind."""
        own = dict(self.named_parameters())
        for name, p in own.items():
            if name not in state:
                raise InputError(f"state_dict: {name} {p.shape} is missing")
            if tuple(state[name].shape) != p.shape:
                raise InputError(f"state_dict: {name} has shape {tuple(state[name].shape)}, this model's is {p.shape}")
            if state[name].dtype.kind != "f":
                raise InputError(f"state_dict: {name} is of {state[name].dtype}; floating-point numbers are expected")
        for name in state:
            if name not in own:
                raise InputError(f"state_dict: {name} {tuple(state[name].shape)} is not a part of this model")

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def extra_repr(self) -> str:
        """Settings that repr shows in the brackets; by default the module's own parameters.  Override as in PyTorch."""
        own = [(name, p) for name, p in self.named_children() if isinstance(p, Parameter)]
        return ", ".join(f"{name}={p.dtype}{list(p.shape)}" for name, p in own)

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        lines = [f"({name}): {part!r}" for name, part in self.named_children() if isinstance(part, Module)]
        if not lines:
            return f"{name}({extra})"
        inside = "\n".join([extra, *lines] if extra else lines).replace("\n", "\n  ")
        return f"{name}(\n  {inside}\n)"


class Sequential(Module):
    """Modules in a row, named 0, 1, 2 ..."""

    def __init__(self, *layers: Module) -> None:
        self.layers = layers

    def named_children(self) -> Iterator[tuple[str, Module | Parameter]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __getitem__(self, i: int) -> Module:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
