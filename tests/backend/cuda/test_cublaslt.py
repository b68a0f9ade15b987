"""The binding of cuBLASLt: how the library is found, and what the real one answers where there is no GPU.

The real one is that of the wheel nvidia-cublas (for CUDA 12, nvidia-cublas-cu12), or of an installed CUDA.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from ctypes import byref, c_size_t, sizeof
from ctypes.util import find_library
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cublaslt_twin import SIZES, Twin
from standin.cupy_standin import installed

from nanograd_gpt.errors import RunError

UNKNOWN = 99  # an attribute that none has


@pytest.fixture(autouse=True)
def binding() -> Any:
    with installed():
        yield importlib.import_module("nanograd_gpt.backend.cuda.cublaslt")


@pytest.fixture(scope="module")
def real() -> Any:
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in spec.submodule_search_locations or []] if spec else []
    names = "cublasLt64_*.dll" if sys.platform == "win32" else "libcublasLt.so.*"
    found = [*(str(path) for place in places for path in place.rglob(names)), find_library("cublasLt")]
    if found[0] is None:
        pytest.skip("neither the wheel nvidia-cublas nor CUDA is installed")
    return ctypes.CDLL(found[0])


@pytest.fixture
def libraries(binding: Any, real: Any) -> dict[str, Any]:
    return {"the library": binding.typed(real), "the twin": binding.typed(Twin())}


@pytest.fixture
def use_real(binding: Any, real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "load", lambda: real)


# --- the real library


def get(library: Any, kind: str, description: Any, attribute: int, c_type: Any) -> tuple[int, Any, int]:
    """Status, value and number of bytes."""
    held, written = c_type(), c_size_t()
    call = getattr(library, f"cublasLt{kind}GetAttribute")
    status = call(description, attribute, byref(held), sizeof(held), byref(written))
    return status, held.value, written.value


@pytest.mark.usefixtures("use_real")
def test_each_attribute_that_is_set_is_read_back_with_its_size(binding: Any, real: Any) -> None:
    descriptions = {
        "MatmulDesc": binding.matmul_desc(binding.COMPUTE_32F_FAST_TF32, binding.R_32F),
        "MatrixLayout": binding.matrix_layout(binding.R_16BF, 768, 8192, 1024),
        "MatmulPreference": binding.preference(),
    }
    prefixes = {"DESC": "MatmulDesc", "LAYOUT": "MatrixLayout", "PREFERENCE": "MatmulPreference"}
    values = {"DESC_TRANSA": 1, "DESC_TRANSB": 1, "DESC_EPILOGUE": binding.EPILOGUE_BIAS, "DESC_BIAS_POINTER": 1 << 40}
    values |= {"LAYOUT_BATCH_COUNT": 12, "LAYOUT_BATCH_STRIDE": 1 << 33, "PREFERENCE_WORKSPACE": 32 << 20}
    names = [name for name in vars(binding) if name.partition("_")[0] in prefixes]
    assert len(names) == 12
    for name in names:
        kind, (number, c_type) = prefixes[name.partition("_")[0]], getattr(binding, name)
        value = values.get(name, 16 if "ALIGNMENT" in name else binding.REDUCTION_COMPUTE_TYPE)
        assert get(real, kind, descriptions[kind], number, c_type)[1] != value
        binding.set_attribute(kind, descriptions[kind], (number, c_type), value)
        assert get(real, kind, descriptions[kind], number, c_type) == (0, value, sizeof(c_type)), name


@pytest.mark.usefixtures("use_real")
def test_a_layout_and_a_description_hold_what_they_were_made_with(binding: Any, real: Any) -> None:
    layout = binding.matrix_layout(binding.R_16BF, 768, 1 << 33, 1024)
    made = [get(real, "MatrixLayout", layout, k, SIZES["MatrixLayout"][k])[1] for k in range(5)]
    assert made == [binding.R_16BF, 0, 768, 1 << 33, 1024]  # 0: by columns
    for compute, scale in (("COMPUTE_32F", "R_32F"), ("COMPUTE_32F_FAST_TF32", "R_32F"), ("COMPUTE_64F", "R_64F")):
        desc = binding.matmul_desc(getattr(binding, compute), getattr(binding, scale))
        made = [get(real, "MatmulDesc", desc, k, ctypes.c_int32)[1] for k in range(2)]
        assert made == [getattr(binding, compute), getattr(binding, scale)]


@pytest.mark.usefixtures("use_real")
def test_an_attribute_that_is_refused_is_one_line(binding: Any) -> None:
    with pytest.raises(RunError, match=r"^cuBLASLt [\d.]+, attribute 99 of MatmulDesc: .* \(status 7\)$"):
        binding.set_attribute("MatmulDesc", binding.matmul_desc(68, 0), (UNKNOWN, ctypes.c_int32), 1)


@pytest.mark.usefixtures("use_real")
def test_without_a_gpu_a_handle_is_refused_in_one_line(binding: Any, real: Any) -> None:
    if real.cublasLtCreate(byref(ctypes.c_void_p())) == 0:
        pytest.skip("tests the error without a GPU, and this machine has one")
    with pytest.raises(RunError, match=r"^cuBLASLt [\d.]+, device 0: .* \(status 1\)$"):
        binding.handle(0)


def test_the_twin_takes_and_refuses_attributes_as_the_library_does(binding: Any, libraries: dict[str, Any]) -> None:
    """Each attribute that the twin has, and one that none has, with each size; and the defaults."""
    answers: dict[str, list[Any]] = {}
    for name, library in libraries.items():
        binding.library.cache_clear()
        binding.load = lambda library=library: library
        made = {
            "MatmulDesc": binding.matmul_desc(68, 0),
            "MatrixLayout": binding.matrix_layout(0, 3, 4, 5),
            "MatmulPreference": binding.preference(),
        }
        answers[name] = [
            (kind, number, c_type, *get(library, kind, made[kind], number, c_type)[:2])
            for kind, attributes in SIZES.items()
            for number in (*attributes, UNKNOWN)
            for c_type in (ctypes.c_int32, ctypes.c_int64)
            if number in attributes or c_type is ctypes.c_int32
        ]
        answers[name] += [
            getattr(library, f"cublasLt{kind}SetAttribute")(made[kind], number, byref(c_type(1)), sizeof(c_type))
            for kind, attributes in SIZES.items()
            for number in (*attributes, UNKNOWN)
            for c_type in (ctypes.c_int32, ctypes.c_int64)
        ]
    ours, theirs = answers["the twin"], answers["the library"]
    assert [answer for answer in theirs if answer not in ours] == []
    assert ours == theirs


# --- finding it


class Loader:
    """A replacement of ctypes.CDLL that knows some names."""

    def __init__(self, *known: str) -> None:
        self.known, self.asked = known, list[str]()

    def __call__(self, path: str) -> str:
        self.asked.append(path)
        if path not in self.known:
            raise OSError(f"{path}: cannot open shared object file: No such file or directory")
        return f"loaded {path}"


@pytest.fixture
def load(binding: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The binding's own load(), which the stand-in replaces by the twin."""
    spec = importlib.util.find_spec("nanograd_gpt.backend.cuda.cublaslt")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(sys, "platform", "linux")
    return fresh


def pathfinder(finds: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed cuda.pathfinder; finds=None: it raises as it does where a library is missing."""

    def load_nvidia_dynamic_lib(name: str) -> Any:
        if finds is None:
            raise RuntimeError(f'Failure finding "lib{name}.so":\n No such file')  # DynamicLibNotFoundError is one
        return SimpleNamespace(abs_path=finds)

    package, module = ModuleType("cuda"), ModuleType("cuda.pathfinder")
    vars(module)["load_nvidia_dynamic_lib"] = load_nvidia_dynamic_lib
    vars(package)["pathfinder"] = module
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", module)


def test_pathfinder_is_asked_first(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder("/wheel/libcublasLt.so.12", monkeypatch)
    monkeypatch.setattr(ctypes, "CDLL", loader := Loader("/wheel/libcublasLt.so.12"))
    assert load.load() == "loaded /wheel/libcublasLt.so.12"
    assert loader.asked == ["/wheel/libcublasLt.so.12"]


@pytest.mark.parametrize("installed_too", [True, False])
def test_without_pathfinder_the_name_of_cupys_cuda_is_tried(
    load: Any, installed_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed_too:
        pathfinder(None, monkeypatch)
    else:
        monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setattr(ctypes, "CDLL", Loader("libcublasLt.so.12"))
    assert load.load() == "loaded libcublasLt.so.12"


def test_then_what_the_linker_knows(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder(None, monkeypatch)
    monkeypatch.setattr(load, "find_library", lambda name: f"lib{name}.so.11")
    monkeypatch.setattr(ctypes, "CDLL", loader := Loader("libcublasLt.so.11"))
    assert load.load() == "loaded libcublasLt.so.11"
    assert loader.asked == ["libcublasLt.so.12", "libcublasLt.so.11"]


def test_a_missing_library_is_one_line(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder(None, monkeypatch)
    monkeypatch.setattr(load, "find_library", lambda name: None)
    monkeypatch.setattr(ctypes, "CDLL", Loader())
    with pytest.raises(
        load.LibraryMissingError, match=r'^cuBLASLt cannot be loaded: .*"libcublasLt\.so": No such file$'
    ):
        load.load()
