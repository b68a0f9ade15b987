"""nanograd-gpt diff-backends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import complaint, fails, nanograd, works
from cusim.checks import needs_compiler, planted
from project_files import PACKAGE
from standin.cupy_standin import installed

from nanograd_gpt.backend.plain import kernels as plain
from nanograd_gpt.backend.precision import set_precision

SIZES: list[Any] = ["--n-layers", 1, "--emb-dim", 16, "--n-heads", 2, "--context-length", 33, "--vocab-size", 70]
SMALL: list[Any] = ["diff-backends", *SIZES, "--batch-size", 2]
CUDA = PACKAGE / "backend" / "cuda"


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    yield
    set_precision("fp32")


def test_the_cpu_agrees_with_the_plain_formulas_in_every_kernel_of_a_step() -> None:
    lines = works(*SMALL).splitlines()
    assert lines[0] == "cpu and plain: a step of 6,032 parameters, 2 batches of 2 x 33"
    assert lines[1].split() == ["operation", "calls", "largest", "difference", "of", "where"]
    assert len(lines) == 3 + 19
    for kernel, calls in (("linear", 4), ("layer_norm_backward", 6), ("adamw", 1), ("keep_mask", 8)):
        (line,) = [line for line in lines if line.startswith(f"{kernel} ")]
        assert re.match(rf"{kernel} +{calls} +\d\.\de[-+]\d\d +\w", line), line
    assert lines[-1] == "checked: 66 calls of 19 kernels agree"


def test_either_backend_may_come_first() -> None:
    printed = works(*SMALL, "--backends", "plain", "cpu")
    assert printed.startswith("plain and cpu: a step of ")


def test_a_saved_model_is_compared_with_its_own_sizes(trained: Path) -> None:
    printed = works("diff-backends", trained, "--batch-size", 3)
    assert printed.startswith("cpu and plain: a step of 13,344 parameters, 2 batches of 3 x 16\n")
    message = f"diff-backends: {trained} has settings of its own; leave out --n-layers, or the model"
    assert fails("diff-backends", trained, "--n-layers", 2) == message


def test_a_kernel_that_differs_is_named_after_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    right = plain.causal_attention_backward

    def wrong(*args: Any) -> Any:
        dqkv = right(*args)
        dqkv[-1, -1, -1] += 0.1 * np.linalg.norm(dqkv)
        return dqkv

    monkeypatch.setattr(plain, "causal_attention_backward", wrong)
    result = nanograd(*SMALL)
    assert complaint(result, 1) == (
        "diff-backends: the first operation that differs is causal_attention_backward, "
        "after trf_blocks.0.att.out_proj (call 27 of 66): its result, (2, 33, 48) float32, by 1.0e-01; 1e-05 is allowed"
    )
    (line,) = [line for line in result.out.splitlines() if "FAILED" in line]
    assert line.split()[:4] == ["causal_attention_backward", "2", "1.0e-01", "FAILED"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backends", "cpu", "cpu"], "--backends: cpu is there twice; choose two of cpu, plain, cuda"),
        (["--backends", "cpu", "plian"], "--backends: 'plian' is unknown; did you mean 'plain'?"),
        (["--precision", "bf16"], "--precision: bf16 needs cuda, which is not compared; leave it out"),
        (["--precision", "fp61"], "--precision: 'fp61' is unknown"),
        (["--batch-size", 0], "--batch-size: 0 is not allowed"),
        (["--threads", 0], "--threads: "),
        (["--backends", "cpu"], "nanograd-gpt diff-backends: argument --backends: expected 2 arguments"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_refused_in_one_line(options: list[object], message: str) -> None:
    assert fails(*SMALL, *options).startswith(message)


def test_a_batch_size_of_0_is_refused_beside_a_saved_model_too(trained: Path) -> None:
    assert fails("diff-backends", trained, "--batch-size", 0).startswith("--batch-size: 0 is not allowed")


def test_without_a_gpu_cuda_is_refused_with_the_reason() -> None:
    with installed(available=False):
        message = fails(*SMALL, "--backends", "cpu", "cuda")
    assert message.startswith("--backends: 'cuda' cannot be used: CuPy is installed but finds no GPU")
    assert message.endswith("; or choose --backends cpu plain")


# --- on the stand-in for CuPy, whose kernels the simulator runs

needs_simulator = [pytest.mark.slow, needs_compiler]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["cpu", "cuda"], marks=needs_simulator),
        pytest.param(["cuda", "plain", "--qkv-bias", "--tied-head"], marks=needs_simulator),
        pytest.param(["cuda", "cpu", "--precision", "bf16"], marks=needs_simulator),
        pytest.param(["plain", "cuda", "--precision", "tf32"], marks=needs_simulator),
    ],
    ids=" ".join,
)
def test_cuda_agrees_in_every_kernel_and_draws_the_same_masks(options: list[str]) -> None:
    with installed() as standin:
        printed = works(*SMALL, "--backends", *options)
        assert {*standin.launches} >= {"adamw", "mask_bits"}
    assert printed.splitlines()[-1] == "checked: 66 calls of 19 kernels agree"
    assert re.search(r"^keep_mask +8 +0\.0e\+00 +mask ", printed, re.MULTILINE)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    ("file", "right", "wrong", "named"),
    [
        ("norm.cu", "row_sum<ROW_THREADS>(sum, per_warp) / C;", "row_sum<ROW_THREADS>(sum, per_warp) / (C + 1);",
         "layer_norm, trf_blocks.0.norm1 "),
        ("attention.cu", "weight * (dweight - delta_[r])", "weight * dweight",
         "causal_attention_backward, after trf_blocks.0.att.out_proj "),
        ("philox.cuh", "0xD2E7470EE14C6C93", "0xD2E7470EE14C6C95", "keep_mask, after pos_emb "),
        ("optimizer.cu", "n[RATE] * m", "n[DECAY] * m", "adamw, all parameters "),
    ],
    ids=["forward", "backward", "mask", "optimizer"],
)  # fmt: skip
def test_a_bug_that_is_planted_in_a_cuda_kernel_is_named(file: str, right: str, wrong: str, named: str) -> None:
    with installed(), planted(CUDA / file, right, wrong):
        result = nanograd(*SMALL, "--backends", "cpu", "cuda")
    assert complaint(result, 1).startswith(f"diff-backends: the first operation that differs is {named}")
