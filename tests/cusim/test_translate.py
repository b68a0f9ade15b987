"""The .cu text is taken as it is: its includes, its lines in messages; what cannot be run is said with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cusim.checks import needs_compiler
from cusim.errors import CompilerError
from cusim.simulator import RawModule, changed
from cusim.translate import INCLUDE, file_name, kernel_names, launch_bounds, translate, without_comments

KERNEL = 'extern "C" __global__ void f(int* x) { *x = VALUE; }\n'


def run(module: RawModule, name: str = "f") -> int:
    x = np.zeros(1, np.int32)
    module.get_function(name)((1,), (1,), (x,))
    return int(x[0])


@needs_compiler
def test_an_include_is_found_in_the_folders_of_the_options_each_once(tmp_path: Path) -> None:
    (tmp_path / "value.cuh").write_text('#pragma once\n#include "more.cuh"\nconst int VALUE = 5 + MORE;\n')
    (tmp_path / "more.cuh").write_text("const int MORE = 2;\n")
    code = '#include "value.cuh"\n#include "more.cuh"\n#include <cuda_bf16.h>\n' + KERNEL
    assert run(RawModule(code=code, options=("--std=c++17", f"-I{tmp_path}"))) == 7


@needs_compiler
def test_the_simulators_headers_come_before_the_products(tmp_path: Path) -> None:
    """A header of the product's with PTX has a twin of the same name here, also when another header includes it."""
    (tmp_path / "mma.cuh").write_text('__device__ void f() { asm volatile("exit;"); }')
    (tmp_path / "all.cuh").write_text('#include "mma.cuh"\n#define VALUE int(bf_lo(0x3f80u))\n')
    assert (INCLUDE / "mma.cuh").is_file()
    assert run(RawModule(code='#include "all.cuh"\n' + KERNEL, options=(f"-I{tmp_path}",))) == 1


def test_an_include_that_is_nowhere_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(CompilerError, match=r"^norm\.cu line 3: no norm\.cuh in .*include, "):
        translate('// a\n\n#include "norm.cuh"\n', "norm.cu", [tmp_path], {})


@needs_compiler
def test_a_compilers_error_names_the_file_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "sum.cuh").write_text("\n\nint sum = nowhere;\n")
    (tmp_path / "norm.cu").write_text('#include "sum.cuh"\n/* a\n comment */\n' + KERNEL)
    with pytest.raises(CompilerError) as caught:
        RawModule(code=(tmp_path / "norm.cu").read_text(), options=(f"-I{tmp_path}",)).library()
    first, second = str(caught.value).splitlines()
    assert first.startswith("sum.cuh:3:")
    assert "nowhere" in first
    assert second.startswith("norm.cu:4:")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('__device__ void f() {\n  asm volatile("exit;");\n}', r"norm\.cu line 2: the simulator does not run PTX"),
        ("__global__ void f() {\n\n  __shared__ int a, b;\n}", r"norm\.cu line 3: .* write one variable a declaration"),
        (
            "#include <cooperative_groups.h>\nnamespace cg = cooperative_groups;",
            r"norm\.cu line 1: .*cooperative groups",
        ),
        ("texture<float> t;", r"norm\.cu line 1: the simulator does not run textures"),
    ],
)
def test_what_cannot_be_run_is_said_with_its_line(code: str, message: str) -> None:
    with pytest.raises(CompilerError, match=message):
        translate(code, "norm.cu", [], {})


def test_comments_are_not_read_as_code_and_strings_are_kept() -> None:
    code = '/* asm\n */ int a; // __shared__ int x, y;\nconst char* s = "// no comment /* \\" */";'
    assert without_comments(code).splitlines() == ["", " int a;  ", 'const char* s = "// no comment /* \\" */";']
    translate(code, "norm.cu", [], {})


def test_shared_variables_of_every_form_are_translated() -> None:
    code = """
    extern __shared__ __align__(16) unsigned short row[];
    extern  __shared__ float4 rows [ ];
    __shared__ float a;
    __shared__ unsigned int b[32][N + 1];
    __shared__ __align__(128) pair<float, int> c[2];
    __shared__ alignas(16) const T* d[4];
    """
    text = translate(code, "norm.cu", [], {})
    assert "__shared__" not in text
    assert text.count("\n") == code.count("\n") + 1
    for part in (
        "auto* row = static_cast<unsigned short*>(",
        "auto* rows = static_cast<float4*>(",
        "auto& a = cusim::shared<float , 0>();",
        "auto& b = cusim::shared<unsigned int [32][N + 1], 1>();",
        "auto& c = cusim::shared<pair<float, int> [2], 2>();",
        "auto& d = cusim::shared<const T* [4], 3>();",
    ):
        assert part in text


def test_kernels_and_their_launch_bounds_are_found_in_every_order_of_words() -> None:
    code = """
    // __global__ void not_this(
    template <class T> __global__ void a(T* x) {}
    extern "C" __global__ void __launch_bounds__(128, 2) b() {}
    extern "C" __global__ __launch_bounds__(64) void c() {}
    template <int N> __global__ void __launch_bounds__(N * 32) d() {}
    """
    assert kernel_names(code) == ["a", "b", "c", "d"]
    assert launch_bounds(code) == {"b": 128, "c": 64}


def test_a_text_without_its_path_gets_the_name_of_the_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "norm.cu").write_text(KERNEL)
    assert file_name(KERNEL, [tmp_path]) == "norm.cu"
    assert file_name(KERNEL + " ", [tmp_path]) == "kernel.cu"


@needs_compiler
def test_a_changed_text_is_compiled_within_the_block_only(tmp_path: Path) -> None:
    (tmp_path / "value.cuh").write_text(header := "const int VALUE = 5;\n")
    module = RawModule(code=(code := '#include "value.cuh"\n' + KERNEL), options=(f"-I{tmp_path}",))
    function = module.get_function("f")
    x = np.zeros(1, np.int32)
    found = []
    for text, other in ((code, code.replace("= VALUE", "= VALUE + 1")), (header, "const int VALUE = 9;\n")):
        with changed(text, other):
            function((1,), (1,), (x,))
        found.append(int(x[0]))
    assert [*found, run(module)] == [6, 9, 5]
