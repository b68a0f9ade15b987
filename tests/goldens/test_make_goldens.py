"""The stored goldens are what their script makes, where PyTorch is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # make_goldens imports torch, so its import must follow importorskip
from goldens import make_goldens
from oracle.closeness import assert_all_close

torch.set_num_threads(1)


@pytest.mark.parametrize("name", make_goldens.CASES)
def test_the_stored_goldens_are_what_their_script_makes(name: str) -> None:
    made = make_goldens.golden(**make_goldens.CASES[name])
    with np.load(Path(make_goldens.__file__).parent / f"{name}.npz", allow_pickle=False) as file:
        stored = dict(file)
    assert list(stored) == list(made)
    for part in ("config", "adamw", "ids", "targets", "continuation"):
        np.testing.assert_array_equal(stored.pop(part), made.pop(part))
    del stored["torch"], made["torch"]  # another version may compute them
    assert_all_close(stored, made, 1e-12)


def test_the_goldens_script_makes_the_same_twice_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first = make_goldens.golden(**make_goldens.CASES["one_head"])
    torch.manual_seed(2)
    second = make_goldens.golden(**make_goldens.CASES["one_head"])
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
