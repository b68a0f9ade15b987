"""Module: a tree of parameters and other modules, each named by its path of attribute names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..autograd import Leaf
from ..backend.contract import Array
from ..backend.select import Device, device_of, to_device
from ..errors import InputError, a_or_an
from ..pytorch_names import MODULE, missing_names
from ..tensor import Tensor
from ..versions import mark_changed


class Parameter(Tensor):
    """A trainable Tensor owned by a module; always a leaf.

    by_rows: bool [False]: only rows are looked up in it, so that its gradient is zero in all others
    """

    __slots__ = ("by_rows",)

    def __init__(self, data: Array, by_rows: bool = False) -> None:
        super().__init__(data, requires_grad=True)
        self.by_rows = by_rows

    def peek_grad(self) -> Array | None:
        """The gradient, to be read at once: `grad` is an array to keep, of which no rows are known to be zero."""
        assert isinstance(self.node, Leaf)
        return self.node.grad


class Module:
    """Base class of networks and layers.  Subclasses define `forward`.

    Parameters and Modules set as attributes are registered; those in a list or a dict are not, as in PyTorch, so use
    Sequential(*layers) for several.
    """

    training: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to replace a Parameter by anything but a Parameter or None, which would silently stop training it."""
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter and cannot become a {type(value).__name__}; "
                f"write to {name}.data[...] instead, or give a Parameter or None"
            )
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # a type checker would accept any attribute
        __getattr__ = missing_names(MODULE)

    def named_children(self) -> Iterator[tuple[str, Module | Parameter]]:
        return ((name, part) for name, part in vars(self).items() if isinstance(part, Module | Parameter))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter once, under the first of its names, in order of assignment, as PyTorch does."""
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
        """List every parameter once, even one with several names."""
        return [p for _, p in self.named_parameters()]

    def modules(self) -> Iterator[Module]:
        """Yield this module and all its descendants."""
        yield self
        for _, part in self.named_children():
            if isinstance(part, Module):
                yield from part.modules()

    @property
    def n_parameters(self) -> int:
        """Number of elements in all parameters."""
        return sum(p.size for p in self.parameters())

    @property
    def device(self) -> Device:
        """Device of the parameters."""
        return device_of(next(self.named_parameters())[1].data)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, with dropout; mode=False is eval()."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation mode, without dropout."""
        return self.train(False)

    def to(self, device: Device | None = None, dtype: Any = None) -> Self:
        """Move to a device or change the dtype; make the optimizer afterwards.  Moved parameters lose their gradient.

        Raises InputError for an unavailable device, TypeError for a dtype that is not floating-point.
        """
        if dtype is not None and np.dtype(dtype).kind not in "fc":
            raise TypeError(f"to: a parameter holds floating-point numbers, and not {np.dtype(dtype)}")
        for p in self.parameters():
            data = p.data if device is None else to_device(p.data, device)
            data = data if dtype is None else data.astype(dtype, copy=False)
            if data is not p.data:
                p.data, p.node = data, Leaf(data.dtype)  # a new leaf, without the old gradient and its buffer
        for module in self.modules():
            module._after_move()
        return self

    def _after_move(self) -> None:
        """Lay out the parameters in memory again, after `to` has moved them; a module without a layout does nothing."""

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters' arrays by name, without copying."""
        return {name: p.data for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy arrays into the parameters by name.  Raises InputError, and changes nothing, for a mismatch."""
        self.check_state_dict(state)
        for name, p in self.named_parameters():
            p.data[...] = to_device(state[name], device_of(p.data))
            mark_changed(p.data)

    def check_state_dict(self, state: Mapping[str, Array]) -> None:
        """Raise InputError, with the name, for an array that is missing, unexpected, or of another shape or kind."""
        own = dict(self.named_parameters())
        for name, p in own.items():
            if name not in state:
                raise InputError(f"state_dict: {name} {p.shape} is missing")
            if tuple(state[name].shape) != p.shape:
                raise InputError(f"state_dict: {name} has shape {tuple(state[name].shape)}, this model's is {p.shape}")
            if state[name].dtype.kind != "f":
                raise InputError(f"state_dict: {name} has dtype {state[name].dtype}; expected floating-point numbers")
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
    """Modules applied in order, named 0, 1, 2 ..."""

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                hint = "write Sequential(*layers)" if isinstance(layer, list | tuple) else "give Modules"
                raise TypeError(f"Sequential: layer {i} is {a_or_an(type(layer).__name__)}, expected a Module; {hint}")
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
