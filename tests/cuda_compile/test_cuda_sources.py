"""Kernels are found in the text of modules and of .cu files, without CuPy."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_compile.cuda_sources import base, declared, instantiations


def module(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_kernels_of_each_source_are_read_without_importing_its_module(tmp_path: Path) -> None:
    module(tmp_path, "norm.py", 'import cupy\nfrom . import launch\nN = launch.Source("norm.cu", "add_norm<float>")\n')
    module(
        tmp_path, "loss.py", 'A = Source("loss.cu", "f<float>")\ndef g(): return Source("loss.cu", "f<float>", "g")\n'
    )
    assert instantiations(tmp_path) == {
        tmp_path / "norm.cu": ["add_norm<float>"],
        tmp_path / "loss.cu": ["f<float>", "g"],
    }


def test_names_may_be_computed_from_constants_of_the_module(tmp_path: Path) -> None:
    module(tmp_path, "a.py", 'D = (64, 128)\nT: str = "bf16"\nA = Source("a.cu", *(f"f<{T}, {d}>" for d in D), "g")\n')
    assert instantiations(tmp_path) == {tmp_path / "a.cu": ["f<bf16, 64>", "f<bf16, 128>", "g"]}


def test_names_that_only_running_the_module_tells_are_refused_with_the_line(tmp_path: Path) -> None:
    module(tmp_path, "a.py", 'NAMES = tuple(names())\nA = Source("a.cu", *NAMES)\n')
    with pytest.raises(ValueError, match=r"^a\.py:2: Source is given .*'NAMES' is not defined"):
        instantiations(tmp_path)


def test_a_module_without_a_source_names_nothing(tmp_path: Path) -> None:
    module(tmp_path, "launch.py", "class Source:\n    pass\n")
    assert instantiations(tmp_path) == {}


def test_all_global_functions_of_a_text_are_declared_kernels() -> None:
    text = """
    // __global__ void in_a_comment(float* x)
    /* __global__ void
       in_another(float* x) */
    extern "C" __global__ void plain(float* x) {}
    template <class F, int N>
    __global__ void __launch_bounds__(N * sizeof(F), (N > 64 ? 1 : 2))
    bounded(F* x) {}
    __global__ __launch_bounds__(128) void other_order(float* x) {}
    __device__ void called(float* x) {}
    """
    assert declared(text) == {"plain", "bounded", "other_order"}


def test_a_kernel_whose_name_cannot_be_read_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="not followed by bounds, a name"):
        declared("__global__ void __cluster_dims__(2) f(float* x) {}\n__global__ void MACRO_BODY\n")


@pytest.mark.parametrize(
    ("instantiation", "name"),
    [("adamw<float>", "adamw"), ("sum", "sum"), ("ns::tile<Pair<int, float>, 64>", "tile"), ("f <bf16>", "f")],
)
def test_the_name_of_an_instantiated_kernel(instantiation: str, name: str) -> None:
    assert base(instantiation) == name
