"""PyTorch's names that are not there: the AttributeError says what to write, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import nanograd_gpt as ng
from nanograd_gpt import functional as F
from nanograd_gpt import nn, pytorch_names
from nanograd_gpt.tensor import Tensor

OWNERS: list[tuple[Any, str, Mapping[str, str]]] = [
    (Tensor([1.0]), "Tensor", pytorch_names.TENSOR),
    (nn.Linear(2, 2), "Linear", pytorch_names.MODULE),
    (nn, "nanograd_gpt.nn", pytorch_names.NN),
    (F, "nanograd_gpt.nn.functional", pytorch_names.FUNCTIONAL),
    (ng, "nanograd_gpt", pytorch_names.TORCH),
    (ng.Function(), "Function", pytorch_names.FUNCTION),
]
MISSING = [(owner, name, key, text) for owner, name, table in OWNERS for key, text in table.items()]


@pytest.mark.parametrize(("owner", "name", "key", "text"), MISSING, ids=[f"{m[1]}.{m[2]}" for m in MISSING])
def test_a_name_of_pytorch_says_what_to_write(owner: Any, name: str, key: str, text: str) -> None:
    if key not in ("to", "cpu", "float") or isinstance(owner, Tensor):
        assert not hasattr(owner, key)
    with pytest.raises(AttributeError) as raised:
        getattr(owner, key)
    assert str(raised.value) == f"{name} has no {key!r}; write {text}"


@pytest.mark.parametrize(("owner", "name", "table"), OWNERS, ids=[owner[1] for owner in OWNERS])
def test_any_other_name_is_a_plain_attribute_error(owner: Any, name: str, table: Mapping[str, str]) -> None:
    with pytest.raises(AttributeError, match=f"^{name} has no attribute 'summm'$") as raised:
        owner.summm  # noqa: B018  # reading it is the test
    assert raised.value.obj is owner  # from which Python suggests similar names


def test_copies_pickles_and_numpys_protocols_do_not_see_the_table() -> None:
    layer = nn.Linear(3, 2)
    for duplicate in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(duplicate.weight.data, layer.weight.data)
    x = Tensor([1.0, 2.0])
    for same in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(np.asarray(same), x.data)
    for protocol in ("__array_interface__", "__cuda_array_interface__", "__array_struct__", "__setstate__"):
        assert not hasattr(x, protocol)


# --- keyword arguments

KEYWORDS: list[tuple[Callable[..., Any], str, Mapping[str, str]]] = [
    (nn.Linear, "Linear", pytorch_names.LINEAR),
    (nn.Embedding, "Embedding", pytorch_names.EMBEDDING),
    (nn.LayerNorm, "LayerNorm", pytorch_names.LAYER_NORM),
    (nn.Dropout, "Dropout", pytorch_names.DROPOUT),
    (F.gelu, "gelu", pytorch_names.GELU),
    (F.cross_entropy, "cross_entropy", pytorch_names.CROSS_ENTROPY),
    (Tensor([1.0], requires_grad=True).backward, "Tensor.backward", pytorch_names.BACKWARD),
]


@pytest.mark.parametrize(("call", "name", "keywords"), KEYWORDS, ids=[case[1] for case in KEYWORDS])
def test_a_keyword_of_pytorch_says_what_to_write(
    call: Callable[..., Any], name: str, keywords: Mapping[str, str]
) -> None:
    for keyword, text in keywords.items():
        with pytest.raises(TypeError) as raised:
            call(**{keyword: 1})
        assert str(raised.value) == f"{name} has no argument {keyword!r}; {text}"
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        call(other=1)


# --- what is suggested

SUGGESTED = {
    "sigmoid": (pytorch_names.TENSOR["sigmoid"], lambda x: 1 / (1 + np.exp(-x)), [0.0, 0.25, 0.0]),
    "silu": (pytorch_names.FUNCTIONAL["silu"], lambda x: x / (1 + np.exp(-x)), [0.0, 0.5, 1.0]),
}


@pytest.mark.parametrize("name", SUGGESTED)
def test_a_suggested_activation_has_the_right_value_and_gradient_far_from_0_too(name: str) -> None:
    text, expected, slopes = SUGGESTED[name]
    for dtype in (np.float32, np.float64):
        x = Tensor(np.array([-100.0, 0.0, 100.0], dtype=dtype), requires_grad=True)
        y = eval(text, {"x": x})
        np.testing.assert_allclose(y.data, expected(x.data.astype(np.float64)), atol=1e-30, rtol=1e-6)
        y.sum().backward()
        np.testing.assert_allclose(x.grad, slopes, atol=1e-6)  # type: ignore[arg-type]  # None would fail
    assert not any("/ (1 + (-x).exp())" in text for *_, text in MISSING)


def test_an_operations_own_apply_leads_to_the_packages() -> None:
    class Doubled(ng.Function):
        pass

    with pytest.raises(TypeError, match=r"Doubled has no apply\(x\); write apply\(Doubled, x\)"):
        Doubled.apply(Tensor([1.0]))
