"""PyTorch's names that this package does not have, with what to write instead, for AttributeErrors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

TENSOR = {
    "abs": "F.maximum(x, -x)",
    "clamp": "F.minimum(F.maximum(x, low), high)",
    "clone": "Tensor(x.data.copy()), or x + 0 within a graph",
    "contiguous": "x itself; every Tensor can be reshaped",
    "cpu": "Tensor(x.numpy())",
    "dim": "x.ndim",
    "expand": "x.broadcast_to(shape)",
    "float": "Tensor(x.data.astype(np.float32))",
    "long": "Tensor(x.data.astype(np.int64))",
    "min": "-(-x).max()",
    "permute": "x.transpose(*axes)",
    "pow": "x ** y",
    "relu": "F.relu(x)",
    "sigmoid": "1 / (1 + (-x).exp())",
    "softmax": "F.softmax(x, dim=-1)",
    "std": "x.var().sqrt()",
    "t": "x.T",
    "to": "Tensor(x.data.astype(dtype)), or move arrays with to_device of backend.select",
}

_DEVICE = "model.to(device), with 'cuda' or 'cpu'"
MODULE = {
    "apply": "for module in model.modules(): f(module)",
    "children": "model.named_children(), which yields parameters too",
    "cpu": _DEVICE,
    "cuda": _DEVICE,
    "double": "model.to(dtype=np.float64)",
    "float": "model.to(dtype=np.float32)",
    "half": "model.to(dtype=np.float16)",
    "named_modules": "model.modules(), or model.named_parameters() for names",
    "register_buffer": "self.name = array, which state_dict() leaves out",
    "register_parameter": "self.name = Parameter(array)",
    "requires_grad_": "AdamW([...]) with only the parameters to train",
    "zero_grad": "optimizer.zero_grad(), or p.zero_grad() for each of model.parameters()",
}

NN = {
    "BCEWithLogitsLoss": "(F.maximum(x, 0) - x * y + (1 + (-F.maximum(x, -x)).exp()).log()).mean()",
    "CrossEntropyLoss": "F.cross_entropy(logits, targets)",
    "MSELoss": "((x - y) ** 2).mean()",
    "ModuleList": "Sequential(*layers), which supports indexing and iteration",
    "Sigmoid": "1 / (1 + (-x).exp())",
    "SiLU": "x / (1 + (-x).exp())",
    "Softmax": "F.softmax(x, dim=-1)",
    "Tanh": "x.tanh()",
}

FUNCTIONAL = {
    "mse_loss": "((x - y) ** 2).mean()",
    "scaled_dot_product_attention": "F.causal_attention(qkv, n_heads)",
    "sigmoid": "1 / (1 + (-x).exp())",
    "silu": "x / (1 + (-x).exp())",
    "tanh": "x.tanh()",
}

TORCH = {
    "from_numpy": "Tensor(array)",
    "inference_mode": "no_grad()",
    "load": "load_model(path) for a GPT, or np.load(path)",
    "manual_seed": "rng=Generator(123), as an argument of each layer or of GPTModel",
    "save": "save_model(path, model) for a GPT, or np.savez(path, **model.state_dict())",
}


def missing_name(owner: object, name: str, table: Mapping[str, str]) -> AttributeError:
    """The error for a name that a module or an object does not have, with its replacement if the table has one."""
    what = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__name__
    if name in table:
        return AttributeError(f"{what} has no {name!r}; write {table[name]}", name=name)
    return AttributeError(f"{what} has no attribute {name!r}", name=name, obj=owner)  # Python suggests a similar name


def missing_names(table: Mapping[str, str]) -> Callable[[object, str], Any]:
    """A class's __getattr__, which Python calls for names that are not there."""

    def refuse(self: object, name: str) -> Any:
        raise missing_name(self, name, table)

    return refuse
