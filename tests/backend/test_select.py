"""Kernels are selected by an array's type, and devices by name, with an error for those that are missing."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from types import FunctionType

import numpy as np
import pytest
from standin.cupy_standin import installed

from nanograd_gpt.backend import cpu, cuda_probe
from nanograd_gpt.backend.array_namespace import array_namespace
from nanograd_gpt.backend.contract import Kernels
from nanograd_gpt.backend.plain import kernels
from nanograd_gpt.backend.select import device_of, kernels_of, resolve_device, synchronize, to_device, to_host
from nanograd_gpt.errors import InputError


def test_numpy_arrays_get_the_cpu_kernels_whatever_stands_beside_them():
    assert kernels_of(2.0, np.ones(3)) is cpu
    assert kernels_of(np.ones(3).view(np.memmap)) is cpu
    assert array_namespace(np.ones(3)) is np


def test_device_arrays_get_the_cuda_kernels_in_the_same_process():
    with installed():
        import cupy

        from nanograd_gpt.backend import cuda

        array = cupy.asarray(np.ones(3))

        assert kernels_of(array) is cuda
        assert kernels_of(np.ones(3)) is cpu
        assert array_namespace(array) is cupy
        assert device_of(array) == "cuda"
        assert to_device(array, "cuda") is array
        assert np.array_equal(to_host(array), np.ones(3))
        synchronize("cuda")


def test_every_backend_has_all_kernels_of_the_contract_and_plain_has_no_other_names():
    contract = {name for name, member in vars(Kernels).items() if isinstance(member, FunctionType) and name[0] != "_"}
    formulas = {name for name in vars(kernels) if not name.startswith("__")}
    assert formulas == contract, "backend/plain/kernels.py imports the kernels of backend/contract.py, and nothing else"
    with installed():
        from nanograd_gpt.backend import cuda

        for backend in (cpu, cuda):
            assert {name for name in contract if not isinstance(getattr(backend, name, None), FunctionType)} == set()


@pytest.mark.parametrize("thing", [[1.0], 1.0, None, "x"], ids=repr)
def test_what_is_no_array_is_refused_by_its_type(thing):
    for find in (kernels_of, array_namespace):
        with pytest.raises(TypeError, match=f"expected a NumPy or CuPy array, got {type(thing).__name__}"):
            find(thing)


def test_auto_is_the_cpu_without_cupy_and_without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what an import of a missing package finds
    assert resolve_device("auto") == "cpu"
    monkeypatch.undo()
    with installed(available=False):
        assert resolve_device("auto") == "cpu"
    with installed():
        assert resolve_device("auto") == "cuda"


def test_a_missing_device_is_named_with_its_reason(monkeypatch):
    with pytest.raises(InputError, match="'tpu' is unknown; choose auto, cpu or cuda"):
        resolve_device("tpu")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match="CuPy is not installed"):
        resolve_device("cuda")
    monkeypatch.undo()
    with installed(available=False), pytest.raises(InputError, match="finds no GPU"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("checkout", "origin", "here", "named"),
    [
        (True, None, True, "."),
        (True, None, False, "{checkout}"),
        (False, {"url": "{uri}", "dir_info": {}}, False, "{checkout}"),
        (False, {"url": "{uri}", "dir_info": {}}, True, "."),
        (False, {"url": "file:///elsewhere/package.whl", "archive_info": {}}, True, "nanograd-gpt"),
        (False, {}, True, "nanograd-gpt"),
        (False, None, True, "nanograd-gpt"),
    ],
    ids=["in a checkout", "beside it", "from a checkout", "from a checkout, in it", "wheel", "registry", "copied"],
)
def test_the_hint_for_cupy_names_what_pip_finds(tmp_path, monkeypatch, checkout, origin, here, named):
    """A clone is not on a registry, so pip must be given its path; a package from a registry, its name."""
    clone = tmp_path / "a clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    package = clone if checkout else tmp_path / "site-packages"
    monkeypatch.setattr(cuda_probe, "__file__", str(package / "nanograd_gpt" / "backend" / "select.py"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Installed(origin, clone.as_uri()))
    monkeypatch.chdir(clone if here else tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)
    package = named.format(checkout=clone)
    with pytest.raises(InputError) as error:
        resolve_device("cuda")
    assert f"(pip install '{package}[cuda12]' or '{package}[cuda13]', to match the driver)" in str(error.value)


class Installed:
    """An installed distribution, with the direct_url.json that pip wrote; origin None: not installed."""

    def __init__(self, origin, uri):
        if origin is None:
            raise PackageNotFoundError("nanograd-gpt")
        self.origin, self.uri = origin, uri

    def read_text(self, name):
        assert name == "direct_url.json"
        return json.dumps(self.origin).replace("{uri}", self.uri) if self.origin else None
