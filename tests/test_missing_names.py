"""PyTorch's names that are not there: the AttributeError says what to write, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
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
