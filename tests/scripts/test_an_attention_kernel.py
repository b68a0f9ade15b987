"""The kernels of the deep dive into attention: right at every length, without races, and counted as the script says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import _attention_steps as steps
import numpy as np
import pytest
from cuda_compile.cuda_sources import declared
from cuda_compile.nvrtc import ARCHITECTURES, compile_text, needs_nvrtc
from cusim.checks import (
    BF16,
    FLOAT32,
    caught,
    needs_compiler,
    needs_thread_sanitizer,
    planted,
    races_of,
    relative_error,
    same_in_every_order,
)
from project_files import PACKAGE, ROOT
from standin.cupy_standin import installed

pytestmark = [pytest.mark.slow, needs_compiler]

NAMES = [step.name for step in steps.STEPS]
SCRIPT = ROOT / "scripts" / "an_attention_kernel.py"
LIMITS = {"float32": FLOAT32, "bfloat16": BF16}


def step_named(name: str) -> steps.Step:
    return steps.STEPS[NAMES.index(name)]


def checked(name: str, H: int, T: int) -> None:
    """Compute a step in three thread orders, and compare it with the formula in float64."""
    step, inputs = step_named(name), steps.random_inputs(H, T)
    module = steps.simulated_module()
    (got,) = same_in_every_order(lambda: steps.launch(step, module, steps.arrays_for(step, inputs)))
    assert relative_error(got, steps.formula(inputs)) < LIMITS[step.dtype]


@pytest.mark.parametrize(("H", "T"), [(1, 1), (1, 31), (2, 33), (1, 64), (3, 77), (1, 130)])
@pytest.mark.parametrize("name", NAMES)
def test_each_step_is_attention_at_every_length_in_every_order_of_threads(name: str, H: int, T: int) -> None:
    checked(name, H, T)


@needs_thread_sanitizer
@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_no_race(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = 8 if name == "2. tiled" else steps.TILE  # the real one has 1,024 threads, which takes ten times as long
    T = 5 if name == "1. naive" else tile + 1  # of which a block has one, or one tile and a row
    step, inputs = step_named(name), steps.random_inputs(1, T)
    monkeypatch.setattr(steps, "TILE", tile)
    with planted(steps.SOURCE, "int TILE = 32", f"int TILE = {tile}"):
        module = steps.simulated_module()
        assert races_of(lambda: steps.launch(step, module, steps.arrays_for(step, inputs))) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("1. naive", "key <= query; key += WARP) sum +=", "key < query; key += WARP) sum +="),
        ("2. tiled", "__syncthreads();  // and may be overwritten", ""),
        ("2. tiled", "tile + y < T ? v[", "true ? v["),
        ("3. online softmax", "sums[r][i] *= shrink;", ";"),
        ("3. online softmax", "<= begin + mine + r ?", "< begin + mine + r + 2 ?"),
        ("4. tensor cores", "ldmatrix4<true>", "ldmatrix4<false>"),
        ("4. tensor cores", "float sum = quad_sum(total[r]);", "float sum = total[r];"),
    ],
)
def test_a_bug_that_is_planted_in_a_step_is_caught(name: str, right: str, wrong: str) -> None:
    with planted(steps.SOURCE, right, wrong), caught():
        checked(name, 1, 77)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernels_compile_for_a_gpu_without_spills(architecture: str) -> None:
    text = steps.SOURCE.read_text(encoding="utf-8")
    names = sorted(declared(text))
    include = PACKAGE / "backend" / "cuda"
    compiled = compile_text(text, names, architecture, file=steps.SOURCE.name, include=include)
    assert compiled.findings() == []
    assert sorted({launch.kernel for step in steps.STEPS for launch in step.launches(1, 1)}) == names


@pytest.mark.parametrize("name", NAMES)
def test_all_heads_cost_what_the_formulas_say_of_one(name: str) -> None:
    step, module = step_named(name), steps.simulated_module()
    for T in (64, 192):
        counts = steps.count(step, module, T)
        assert sum(c.bytes for c in counts) == step.bytes(T)
        assert sum(c.flops for c in counts) == step.flops(T)


def test_what_the_script_suggests_to_try_is_right_and_moves_fewer_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_named("4. tensor cores")
    before = steps.count(step, steps.simulated_module(), 256)
    monkeypatch.setattr(steps, "QUERIES", 128)
    with planted(steps.SOURCE, "QUERIES = 64", "QUERIES = 128"):
        for T in (64, 77, 256):
            checked(step.name, 1, T)
        after = steps.count(step, steps.simulated_module(), 256)
    assert sum(c.bytes for c in after) == step.bytes(256)
    assert sum(c.flops for c in after) == step.flops(256)
    keys = [steps.bytes_of("k16", step, counts) for counts in (before, after)]
    assert keys == [2 * 64 * 640, 2 * 64 * 384]


# --- the script


def run_changed(out: Path, right: str, wrong: str) -> int:
    """Run the script's main with one change to its text; returns the exit code."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count(right) == 1
    module: dict[str, Any] = {"__name__": "dive", "__doc__": "A deep dive."}
    exec(compile(text.replace(right, wrong), SCRIPT.name, "exec"), module)
    try:
        code: int = module["main"](["--fast", "--out", str(out)])
    except SystemExit as end:
        return int(str(end.code))
    return code


@pytest.mark.parametrize(
    ("right", "wrong", "claim"),
    [
        ('"float32": 1e-6', '"float32": 1e-9', "1. naive"),
        (
            "(step.bytes(length), step.flops(length))",
            "(step.bytes(length) + 1, step.flops(length))",
            "4. tensor cores:",
        ),
        ("moved[a.name][T] / moved[b.name][T]", "moved[b.name][T] / moved[a.name][T]", "each step moves fewer bytes"),
        ("scores[1] / moved[tiled.name][T]", "scores[1] / moved[naive.name][T]", "it is 3% of the bytes of step 2"),
        ("fused == 0 < tensor", "fused > 0 < tensor", "in step 4 tensor cores do all products"),
    ],
)
def test_each_claim_can_fail(
    right: str, wrong: str, claim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_changed(tmp_path, right, wrong) == 1
    assert f"[FAILS] {claim}" in capsys.readouterr().out


def test_a_wrong_kernel_fails_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with planted(steps.SOURCE, "float sum = quad_sum(total[r]);", "float sum = total[r];"):
        assert run_changed(tmp_path, "GPU_ROUNDS = 96, 1024, 20", "GPU_ROUNDS = 96, 1024, 20") == 1
    assert "[FAILS] 4. tensor cores" in capsys.readouterr().out


def test_on_a_gpu_the_same_kernels_are_compared_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with installed() as standin:
        assert run_changed(tmp_path, "GPU_ROUNDS = 96, 1024, 20", "GPU_ROUNDS = 3, 64, 2") == 0
        launched = standin.launches
    for kernel in declared(steps.SOURCE.read_text(encoding="utf-8")):
        assert launched.count(kernel) == (6 if kernel == "softmax" else 3), kernel
    shown = capsys.readouterr().out
    assert "on this GPU, 3 heads, T = 64, median of 2:" in shown
    assert shown.count(" ms, ") == len(NAMES)
    assert shown.count("from the formula") == len(NAMES)


def test_without_a_compiler_it_ends_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": "nowhere-g++", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr.startswith("error: no C++ compiler 'nowhere-g++': install g++, or name one by CXX")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")


def test_all_steps_start_from_the_same_numbers() -> None:
    inputs = steps.random_inputs(2, 5)
    for name in "qkv":
        as_bits = inputs[name].view(np.uint32)
        np.testing.assert_array_equal(as_bits >> 16, inputs[f"{name}16"])
        assert not (as_bits & 0xFFFF).any()
