"""Parameter groups with their own settings, like PyTorch's param_groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

from ..arguments import not_allowed, real_number
from ..errors import InputError, a_or_an
from ..tensor import Tensor
from .module import Module, Parameter

Parameters: TypeAlias = Iterable[Parameter] | Iterable[Mapping[str, Any]]  # or groups of them

SETTINGS = "lr", "betas", "eps", "weight_decay", "initial_lr"


class ParamGroup(MutableMapping[str, Any]):
    """A group's parameters under "params", fixed, and its settings lr, betas, eps and weight_decay, which can be set.

    "initial_lr" is the learning rate at construction, the base of a schedule, as in PyTorch.
    Setting a value out of range raises InputError and so does, unlike in PyTorch, an unknown key.
    """

    def __init__(self, params: Iterable[Parameter], settings: Mapping[str, Any], where: str = "") -> None:
        self.params, self.where = tuple(params), where
        self.settings: dict[str, Any] = {}
        self.update(settings)
        self.settings.setdefault("initial_lr", self.settings["lr"])

    def __getitem__(self, key: str) -> Any:
        return self.params if key == "params" else self.settings[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "params":
            raise InputError(f"optimizer: {self.where}params cannot be changed; make a new optimizer")
        self.settings[key] = checked_setting(key, value, self.where)

    def __delitem__(self, key: str) -> None:
        raise InputError(f"optimizer: {self.where}{key} cannot be deleted; set it to another value")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self.settings))

    def __len__(self) -> int:
        return 1 + len(self.settings)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"ParamGroup({len(self.params)} parameters, {settings})"


def make_param_groups(parameters: Parameters, defaults: Mapping[str, Any]) -> list[ParamGroup]:
    """Create an optimizer's groups: a single one of all parameters, or those given as mappings, completed by defaults.

    Raises InputError for anything else, and for settings out of range.
    """
    given = _as_list("parameters", parameters)
    if not any(isinstance(group, Mapping) for group in given):
        return [ParamGroup(given, defaults)]
    groups = []
    for i, group in enumerate(given):
        where = f"parameter group {i}: "
        if not isinstance(group, Mapping) or "params" not in group:
            what = "'params' is missing" if isinstance(group, Mapping) else f"it is {a_or_an(type(group).__name__)}"
            raise InputError(f"optimizer: {where}{what}; give {{'params': [...], 'weight_decay': 0.1}}, for example")
        params: Any = group["params"]
        params = [params] if isinstance(params, Tensor) else _as_list(where + "params", params)
        own = {name: value for name, value in group.items() if name != "params"}
        groups.append(ParamGroup(params, {**defaults, **own}, where))
    return groups


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into two groups for AdamW: matrices and embeddings with weight decay, biases and norms without.

    The rule is nanoGPT's: parameters with 2 or more axes decay.  A parameter with several names is listed once.
    """
    parameters = model.parameters()
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def checked_setting(name: str, value: Any, where: str = "") -> Any:
    """Convert a setting to Python's numbers.  Raises InputError for a value out of range or an unknown name."""
    if name == "betas":
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise not_allowed(where + name, value, "two numbers in [0, 1)")
        return tuple(_number(f"{where}beta{i}", beta, 0, "in [0, 1)", below=1) for i, beta in enumerate(value, 1))
    if name == "eps":
        return _number(where + name, value, 5e-324, "> 0")
    if name in SETTINGS:
        return _number(where + name, value, 0, ">= 0")
    raise InputError(f"optimizer: {where}{name!r} is unknown; choose one of params, {', '.join(SETTINGS)}")


def _number(name: str, value: Any, least: float, what: str, below: float | None = None) -> float:
    number = real_number(name, value, f"a finite number {what}")
    if not (isfinite(number) and number >= least and (below is None or number < below)):
        raise not_allowed(name, value, f"a finite number {what}")
    return number


def _as_list(name: str, parameters: Any) -> list[Any]:
    """List an iterable's elements; refuses sets, whose order is not deterministic."""
    if isinstance(parameters, Tensor | Mapping | str | set | frozenset) or not isinstance(parameters, Iterable):
        raise InputError(
            f"optimizer: {name}: expected a list of Tensors, got a {type(parameters).__name__}; give model.parameters()"
        )
    return list(parameters)
