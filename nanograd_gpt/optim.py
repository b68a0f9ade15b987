"""AdamW over flat arrays, and gradient clipping by the global norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from .arguments import not_allowed, real_number, whole_number
from .autograd import Leaf
from .backend.contract import AdamWNumbers, Array, HostArray
from .backend.select import Device, device_of, kernels_of, to_device
from .errors import InputError, a_or_an
from .moved_rows import MovedRows
from .nn.flat import FlatParameters
from .nn.module import Module, Parameter
from .nn.param_groups import SETTINGS, Parameters, ParamGroup, checked_setting, make_param_groups
from .tensor import Tensor
from .versions import mark_changed


def _shared_setting(name: str) -> Any:
    """Expose a setting of the groups as an attribute: readable if all groups agree; setting it sets every group's."""

    def read(optimizer: AdamW) -> Any:
        values = [group[name] for group in optimizer.param_groups]
        if any(value != values[0] for value in values):
            raise InputError(f"optimizer: {name} differs between the groups ({values}); see optimizer.param_groups")
        return values[0]

    def write(optimizer: AdamW, value: Any) -> None:
        for group in optimizer.param_groups:
            group[name] = value

    return property(read, write)


class AdamW:
    """Adam with decoupled weight decay, with PyTorch's semantics and defaults.

    parameters          Tensors that require a gradient, or groups of them with their own settings, as in PyTorch:
                        [{"params": [...], "weight_decay": 0.0}, ...]; decay_groups makes the usual two
    lr                  float >= 0 [1e-3]: learning rate
    betas               two floats in [0, 1) [(0.9, 0.999)]: decay of the running means of gradient and squared gradient
    eps                 float > 0 [1e-8]: added to the square root of the second; PyTorch allows 0
    weight_decay        float >= 0 [1e-2]: applies to all parameters, biases and norms too, unless groups say otherwise

    A parameter without a gradient is skipped, and its step count stays.  Settings can be read and changed in
    `param_groups`; the groups themselves are fixed.  copy.deepcopy and pickle of a model together with its optimizer
    give a pair that trains on; of an optimizer alone, the copy has copies of the parameters.
    On the CPU, rows of an Embedding that no token has used only decay, and their gradient and means take no memory,
    until its `grad` is read: that array may be written to at any time.  Parameter.peek_grad() is for reading alone.
    Raises InputError for values out of range and for parameters that cannot be trained.
    Source: Loshchilov and Hutter 2019.

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> weight = ng.Parameter(np.array([1.0, -2.0]))
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.0)
    >>> for _ in range(4):
    ...     loss = (weight * weight).sum()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     print(f"{loss.item():.3f}", weight.data.round(3))
    5.000 [ 0.5 -1.5]
    2.500 [ 0.034 -1.009]
    1.019 [-0.336 -0.537]
    0.401 [-0.542 -0.101]
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        given = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults = {name: checked_setting(name, value) for name, value in given.items()}
        self._param_groups = make_param_groups(parameters, defaults)
        self._lr: float = defaults["lr"]
        self._initial_lr: float = defaults["lr"]
        ends = list(accumulate(len(group["params"]) for group in self.param_groups))
        self.members = [range(a, b) for a, b in pairwise([0, *ends])]  # each group's parameters, by index
        self.flat = FlatParameters([p for group in self.param_groups for p in group["params"]])
        self.steps = [0] * len(self.parameters)
        self.own = slice(0, self.flat.data.size)  # the part of the flat arrays that is updated here: see keep_shard
        self._new_moments()

    def _new_moments(self) -> None:
        self.exp_avg: Array = self.flat.zeros(self.own)  # running mean of the gradient
        self.exp_avg_sq: Array = self.flat.zeros(self.own)  # running mean of its square
        self.moved = {i: MovedRows(len(self.parameters[i].data)) for i in self.flat.by_rows}  # rows of both

    def keep_shard(self, which: int, of: int) -> None:
        """From now on, update one of `of` equal parts of all parameters alone, with new moments of that part.

        Other processes update the other parts; state_dict needs the moments of all.
        """
        self.flat = FlatParameters(self.parameters, shards=of)
        size = self.flat.data.size // of
        self.own = slice(which * size, (which + 1) * size)
        self._new_moments()

    @property
    def param_groups(self) -> list[ParamGroup]:
        """The groups, whose settings can be changed."""
        return self._param_groups

    @param_groups.setter
    def param_groups(self, groups: object) -> None:
        raise InputError("optimizer: param_groups cannot be replaced; set a group's settings or make a new optimizer")

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, group by group."""
        return self.flat.parameters

    @property
    def lr(self) -> float:
        """Learning rate.  With several groups, the rate of those created without their own.

        Setting it scales every group's rate in proportion to its "initial_lr".
        """
        if len(self.param_groups) > 1:
            return self._lr
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        lr: float = checked_setting("lr", value)
        rates = [self._rate(group, lr) for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        self._lr = lr

    def _rate(self, group: ParamGroup, lr: float) -> float:
        """Return a group's learning rate for an optimizer rate of lr."""
        made_with: float = group["initial_lr"]
        if len(self.param_groups) == 1 or made_with == self._initial_lr:
            return lr
        if not self._initial_lr:
            raise InputError(
                "lr: the initial rate is 0, so the groups' cannot be scaled; set each in optimizer.param_groups"
            )
        return made_with * (lr / self._initial_lr)

    betas = _shared_setting("betas")
    eps = _shared_setting("eps")
    weight_decay = _shared_setting("weight_decay")

    def __repr__(self) -> str:
        """Return the groups' settings in PyTorch's format."""
        lines = [
            line
            for i, group in enumerate(self.param_groups)
            for line in (f"Parameter Group {i}", *(f"    {name}: {group[name]}" for name in sorted(group.settings)))
        ]
        return "\n".join(["AdamW (", *lines, ")"])

    def step(self, max_norm: float | None = None) -> Array | None:
        """Update every parameter that has a gradient, in place; graphs that saved the old values become invalid.

        max_norm: float > 0: use the gradients clipped to this global norm, as after clip_grad_norm.  The gradients are
        left unchanged; returns the norm before clipping (shape ()), otherwise None.
        """
        self.flat.check_in_place()
        norm, scale = (None, None) if max_norm is None else self.clip_scale(max_norm)
        self.apply(to_device(self.advance(), device_of(self.flat.data)), scale)
        return norm

    # The parts of a step: what is computed on the host, and what on the device

    def clip_scale(self, max_norm: float) -> tuple[Array, Array]:
        """Compute the gradients' global norm (), and the factor that clips it to max_norm ()."""
        return _clip_scale([leaf.grad for leaf in self.flat.leaves], max_norm)

    def advance(self) -> HostArray:
        """Count an update of each parameter with a gradient; returns its AdamWNumbers, a row for each run (R, 8)."""
        runs = self._runs()
        for _, members, _ in runs:
            self.steps[members] = [n + 1 for n in self.steps[members]]
        return np.array([self._numbers(group, self.steps[members.start]) for group, members, _ in runs])

    def apply(self, numbers: Array, scale: Array | None) -> None:
        """Update the parameters with numbers (R, 8) from advance(), on the device, and gradients times scale ()."""
        for row, (_, members, run) in zip(numbers, self._runs(), strict=True):
            mark_changed(self.flat.data[run])
            start = run.start
            for i in self.flat.by_rows:
                if not members.start <= i < members.stop:
                    continue
                self.moved[i].add(self.flat.leaves[i].rows)
                if self.moved[i].are_few():
                    matrix = self.flat.slice_of(i)
                    self._update(slice(start, matrix.start), row, scale)
                    arrays = self.flat.data, self.flat.peek_grad(), self.exp_avg, self.exp_avg_sq
                    self.moved[i].update(self.flat.kernels, [self.flat.view_of(a, i) for a in arrays], row, scale)
                    start = matrix.stop
            self._update(slice(start, run.stop), row, scale)

    def _update(self, run: slice, numbers: Array, scale: Array | None) -> None:
        """Update what belongs to this process of a part of the flat arrays."""
        flat, first = self.flat, self.own.start
        part = slice(max(run.start, first), min(run.stop, self.own.stop))
        if part.start < part.stop:
            at = slice(part.start - first, part.stop - first)
            arrays = flat.data[part], flat.peek_grad()[part], self.exp_avg[at], self.exp_avg_sq[at]
            flat.kernels.adamw(*arrays, numbers, scale)

    def _runs(self) -> list[tuple[ParamGroup, slice, slice]]:
        """Runs of parameters that are updated at once: their group, and slices of parameters and of the flat arrays."""
        grouped = zip(self.param_groups, self.members, strict=True)
        return [(group, *run) for group, part in grouped for run in self.flat.contiguous_groups(self.steps, part)]

    def _numbers(self, group: ParamGroup, step: int) -> AdamWNumbers:
        return AdamWNumbers.at_step(step, group["lr"], group["betas"], group["eps"], group["weight_decay"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; set_to_none=False zeroes existing ones instead, which then still count as steps."""
        for p, leaf in zip(self.parameters, self.flat.leaves, strict=True):
            if set_to_none or leaf.grad is None:
                p.zero_grad()
            elif leaf.rows is not None:
                leaf.rows.zero(leaf.grad)
            else:
                leaf.grad[...] = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, and each parameter's step count and two running means, in order.

        Several groups are listed under "groups", each with its settings and the indices of its parameters.
        Raises RuntimeError if this process keeps a part of the moments alone: see keep_shard.
        """
        if self.exp_avg.size < self.flat.data.size:
            raise RuntimeError("optimizer: the moments of other parts are in other processes; collect them first")
        indices = range(len(self.parameters))
        state = {
            "settings": self._settings(self.param_groups[0], SETTINGS[:-1]),
            "steps": list(self.steps),
            "exp_avg": [self.flat.view_of(self.exp_avg, i) for i in indices],
            "exp_avg_sq": [self.flat.view_of(self.exp_avg_sq, i) for i in indices],
        }
        if len(self.param_groups) > 1:
            state["settings"] = {"lr": self._lr, "initial_lr": self._initial_lr}
            state["groups"] = [
                {**self._settings(group, SETTINGS), "params": list(members)}
                for group, members in zip(self.param_groups, self.members, strict=True)
            ]
        return state

    def _settings(self, group: ParamGroup, names: Sequence[str]) -> dict[str, Any]:
        """Return settings in the types that JSON gives back."""
        return {name: list(group[name]) if name == "betas" else group[name] for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, including its settings: the learning rate becomes the saved one.

        The state of a single group has no initial_lr; the group keeps its own then, as in PyTorch.
        Raises InputError, and changes nothing, for a state of other parameters or groups, or of another library.
        """
        self.check_state_dict(state)
        self.load_settings(state)
        device: Device = self.parameters[0].device
        for i in range(len(self.parameters)):
            means = [self.flat.view_of(mean, i) for mean in (self.exp_avg, self.exp_avg_sq)]
            given = [to_device(state[name][i], device) for name in ("exp_avg", "exp_avg_sq")]
            if i in self.moved:
                self.moved[i].load(means, given)
            else:
                means[0][...], means[1][...] = given

    def load_settings(self, state: Mapping[str, Any]) -> None:
        """Restore the settings and step counts of a state_dict, which may lack the moments."""
        settings, groups = state["settings"], state.get("groups", [state["settings"]])
        self._lr = checked_setting("lr", settings["lr"])
        self._initial_lr = checked_setting("initial_lr", settings.get("initial_lr", self._initial_lr))
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({name: saved[name] for name in SETTINGS if name in saved})
        self.steps = [int(n) for n in state["steps"]]

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise InputError for a state that load_state_dict would refuse."""
        if not isinstance(state, Mapping):
            raise InputError(
                f"optimizer: the state is {a_or_an(type(state).__name__)}; give what state_dict() returned"
            )
        for name in ("settings", "steps", "exp_avg", "exp_avg_sq"):
            if name not in state:
                hint = " (it looks like PyTorch's)" if "param_groups" in state else ""
                raise InputError(f"optimizer: the state has no {name!r}{hint}; give what state_dict() returned")
        self._check_groups(state)
        for name in ("steps", "exp_avg", "exp_avg_sq"):
            entries = state[name]
            if not isinstance(entries, list | tuple) or len(entries) != len(self.parameters):
                n = len(entries) if isinstance(entries, list | tuple) else type(entries).__name__
                raise InputError(f"optimizer: {name}: {n} in the state, {len(self.parameters)} parameters here")
        for i, p in enumerate(self.parameters):
            whole_number(f"optimizer: steps[{i}]", state["steps"][i], 0)
            for name in ("exp_avg", "exp_avg_sq"):
                _check_mean(f"optimizer: {name}[{i}]", state[name][i], p.shape, name == "exp_avg_sq")

    def _check_groups(self, state: Mapping[str, Any]) -> None:
        several = len(self.param_groups) > 1
        groups = state.get("groups", [state["settings"]])
        if not isinstance(groups, list | tuple) or len(groups) != len(self.param_groups):
            n = len(groups) if isinstance(groups, list | tuple) else type(groups).__name__
            raise InputError(f"optimizer: {n} parameter groups in the state, {len(self.param_groups)} here")
        if several:
            _check_settings("", state["settings"], ("lr", "initial_lr"))
        for i, (group, members) in enumerate(zip(groups, self.members, strict=True)):
            where = f"parameter group {i}: " if several else ""
            _check_settings(where, group, SETTINGS if several else SETTINGS[:-1])
            if several and group.get("params") != [*members]:
                raise InputError(f"optimizer: {where}its parameters in the state differ from those here")


def _check_settings(where: str, settings: Any, required: Sequence[str]) -> None:
    if not isinstance(settings, Mapping):
        raise InputError(f"optimizer: {where}the settings are a {type(settings).__name__}, not a mapping")
    for name in SETTINGS:
        if name in settings:
            checked_setting(name, settings[name], f"optimizer: {where}")
        elif name in required:
            raise InputError(f"optimizer: {where}the state has no {name}; give what state_dict() returned")


def _check_mean(name: str, array: Any, shape: tuple[int, ...], of_squares: bool) -> None:
    if not hasattr(array, "dtype") or not hasattr(array, "shape") or array.dtype.kind != "f":
        kind = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{name} is of {kind}; an array of floating-point numbers is expected")
    if tuple(array.shape) != shape:
        raise InputError(f"{name} has shape {tuple(array.shape)}, the parameter {shape}")
    smallest = float(array.min()) if array.size else 0.0  # nan if there is one
    if smallest != smallest or (of_squares and smallest < 0):
        raise InputError(f"{name} contains {smallest}, which is not a valid running mean; use an earlier state")


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Array:
    """Scale all gradients in place so that their global norm is at most max_norm; returns the norm before, ().

    parameters          iterable of Tensors, or one Tensor; those without a gradient are skipped
    max_norm            float > 0

    The norm stays on the device, so nothing waits for it.  Raises InputError for a max_norm that is not positive and if
    no parameter has a gradient.  Source: Pascanu et al. 2013; like PyTorch's clip_grad_norm_, with 1e-6 added to the
    norm.

    >>> import numpy as np
    >>> import nanograd_gpt as ng
    >>> weight = ng.Parameter(np.array([3.0, 4.0]))
    >>> (weight * weight / 2).sum().backward()  # the gradient is the weight itself
    >>> float(clip_grad_norm([weight], max_norm=1.0)), weight.grad.round(3).tolist()
    (5.0, [0.6, 0.8])
    """
    if isinstance(parameters, Module):
        raise InputError(f"clip_grad_norm: got a {type(parameters).__name__}; give model.parameters()")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in given:
        if not isinstance(p, Tensor):
            raise InputError(f"clip_grad_norm: expected Tensors, got a {type(p).__name__}; give model.parameters()")
    leaves = [p.node for p in given if isinstance(p.node, Leaf) and p.node.grad is not None]
    norm, scale = _clip_scale([leaf.grad for leaf in leaves], max_norm)
    for leaf in leaves:
        _scale(leaf, scale)
    return norm


def _scale(leaf: Leaf, factor: Array | float) -> None:
    """Multiply the gradient of a leaf, which has one, in place."""
    gradient = leaf.grad
    assert gradient is not None
    if leaf.rows is None:
        gradient *= factor
    else:
        gradient[leaf.rows.marked] *= factor


def _clip_scale(given: Sequence[Array | None], max_norm: float) -> tuple[Array, Array]:
    """Compute the global norm of gradients (), and the factor that clips it ()."""
    limit = real_number("max_norm", max_norm, "a number > 0")
    if not limit > 0:
        raise not_allowed("max_norm", max_norm, "a number > 0")
    gradients = [gradient for gradient in given if gradient is not None]
    if not gradients:
        raise InputError("clip_grad_norm: no parameter has a gradient; call loss.backward() first")
    return kernels_of(gradients[0]).clip_scale(gradients, limit)
