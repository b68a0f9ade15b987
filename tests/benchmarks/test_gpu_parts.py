"""The tables on GPUs: a kernel's ratio is to the ceilings that were measured on the same machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gpu_parts
import pytest


def written(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def on(gpu: str, copy: float, product: float) -> list[dict[str, Any]]:
    """The lines of a machine and of its ceilings, in GB/s and TFLOP/s."""
    return [
        {"step": "installation", "what": "gpu", "name": gpu},
        {"step": "ceilings", "what": "product", "kind": "bf16", "n": 8192, "tflops": product},
        {"step": "ceilings", "what": "copy", "gb_per_second": copy},
        {"step": "ceilings", "ended": "", "code": 0},
    ]


MEMORY = {"step": "kernels", "what": "by bytes", "precision": "bf16", "ms": 3.0, "bytes": 2e9, "flops": 0}
PRODUCT = {"step": "kernels", "what": "by flops", "precision": "bf16", "ms": 6.0, "bytes": 1, "flops": 4e12}
END = {"step": "kernels", "ended": "", "code": 0}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu_parts, "RESULTS", tmp_path / "gpu_check.jsonl")
    return tmp_path / "gpu_check.jsonl"


def test_a_kernels_bound_is_the_longer_of_its_bytes_and_its_operations(results: Path) -> None:
    written(results, *on("A", copy=1000, product=2000), MEMORY, PRODUCT, END)
    table = gpu_parts.kernels()
    assert "| by bytes, bf16 | 3.000 | 1.5 |" in table
    assert "| by flops, bf16 | 6.000 | 3.0 |" in table


def test_the_ceilings_of_another_gpu_are_not_taken(results: Path) -> None:
    written(
        results, *on("A", copy=1000, product=2000), {"step": "installation", "what": "gpu", "name": "B"}, MEMORY, END
    )
    assert gpu_parts.kernels() == gpu_parts.NOT_YET


def test_what_the_sanitizer_found_is_said(results: Path) -> None:
    runs = [{"step": "sanitizer", "what": "memcheck", "kernel": kernel, "code": 0} for kernel in ("norm", "loss")]
    end = {"step": "sanitizer", "ended": "", "code": -9, "late": True}
    written(results, *runs, end)
    assert gpu_parts.sanitized() == " compute-sanitizer found nothing, in the tests of kernels: memcheck of 2."
    written(results, *runs, {**runs[0], "what": "racecheck", "code": 9}, end)
    assert "found an error by racecheck in norm" in gpu_parts.sanitized()
    written(results, end)
    assert gpu_parts.sanitized() == ""
