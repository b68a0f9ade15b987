"""PyTorch's names that this package does not have, with what to write instead, for AttributeErrors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

SIGMOID = (
    "(x / 2).tanh() / 2 + 0.5"  # with a finite gradient for every x; that of 1 / (1 + (-x).exp()) overflows to nan
)

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
    "sigmoid": SIGMOID,
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
    "Sigmoid": SIGMOID,
    "SiLU": f"x * ({SIGMOID})",
    "Softmax": "F.softmax(x, dim=-1)",
    "Tanh": "x.tanh()",
}

FUNCTIONAL = {
    "mse_loss": "((x - y) ** 2).mean()",
    "scaled_dot_product_attention": "F.causal_attention(qkv, n_heads)",
    "sigmoid": SIGMOID,
    "silu": f"x * ({SIGMOID})",
    "tanh": "x.tanh()",
}

TORCH = {
    "arange": "np.arange(n)",
    "cat": "functional.cat([x, y], dim=0)",
    "exp": "x.exp()",
    "from_numpy": "Tensor(array)",
    "inference_mode": "no_grad()",
    "load": "load_model(path) for a GPT, or np.load(path)",
    "load_tokenizer": "get_tokenizer(path)",  # beside save_tokenizer, as load_model is beside save_model
    "log": "x.log()",
    "manual_seed": "rng=Generator(123), as an argument of each layer or of GPTModel",
    "mean": "x.mean()",
    "ones": "Tensor(np.ones(shape))",
    "randn": "Tensor(np.random.default_rng(0).standard_normal(shape))",
    "softmax": "functional.softmax(x, dim=-1)",
    "stack": "functional.stack([x, y], dim=0)",
    "sum": "x.sum()",
    "tanh": "x.tanh()",
    "zeros": "Tensor(np.zeros(shape))",
    "save": "save_model(path, model) for a GPT, or np.savez(path, **model.state_dict())",
}


FIXED = {  # attributes of Tensors that cannot be set, or to one value alone
    "grad": "grad can be set to None alone; backward() adds to it, and x.grad[...] = array overwrites it",
    "requires_grad": (
        "requires_grad cannot be changed; give AdamW only the parameters to train; x.detach() is outside the graph, "
        "and a new Tensor(x.data, requires_grad=True) is a leaf"
    ),
}

FUNCTION = {
    "ctx": "self",
    "mark_dirty": "nothing: forward never changes its inputs",
    "save_for_backward": "self.saved = x, y",
    "saved_tensors": "x, y = self.saved",
}

P = ParamSpec("P")
R = TypeVar("R")

# PyTorch's keyword arguments that functions here do not have, by PyTorch's name, with what to write instead.
LINEAR = {"in_features": "call it d_in", "out_features": "call it d_out"}
EMBEDDING = {"num_embeddings": "call it n_vectors", "embedding_dim": "call it emb_dim"}
LAYER_NORM = {"normalized_shape": "call it emb_dim", "eps": "set the layer's eps"}
DROPOUT = {"p": "call it rate"}
GELU = {"approximate": "leave it out, since the tanh form is the only one"}
CROSS_ENTROPY = {
    "ignore_index": "select the rows to count first: logits[keep], targets[keep]",
    "reduction": "leave it out: the result is the mean",
    "label_smoothing": "leave it out: the targets are ids alone",
    "weight": "leave it out: all ids count alike",
}
BACKWARD = {
    "retain_graph": "leave it out and run forward again: backward frees the graph",
    "create_graph": "leave it out: gradients are arrays, without a graph of their own",
}


def without_keywords(keywords: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function raise TypeError for some of PyTorch's keyword arguments, with what to write instead."""

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        what = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name in keywords:
                    raise TypeError(f"{what} has no argument {name!r}; {keywords[name]}")
            return function(*args, **kwargs)

        return called

    return decorated


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


class TorchFunction:
    """PyTorch's ways to run an operation, and its names there, which say what to write here."""

    __slots__ = ()
    if not TYPE_CHECKING:  # a type checker would accept any attribute
        __getattr__ = missing_names(FUNCTION)

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        name = type(self).__name__
        raise TypeError(f"{name}() is an instance of the operation {name}; give the class: apply({name}, x)")

    @classmethod
    def apply(cls, *_: Any) -> None:
        """Refuse PyTorch's way to run an operation: the engine knows no Tensors."""
        raise TypeError(f"{cls.__name__} has no apply(x); write apply({cls.__name__}, x), with the package's apply")
