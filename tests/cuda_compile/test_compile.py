"""Every .cu of the package compiles for sm_80 and sm_90, without spills, within its launch bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from cuda_compile.cuda_sources import base, declared, instantiations
from cuda_compile.nvrtc import ARCHITECTURES, compile_text, needs_nvrtc, version
from project_files import PACKAGE, short

CUDA = PACKAGE / "backend" / "cuda"
FILES = sorted(CUDA.rglob("*.cu"))


def test_every_cu_file_is_that_of_a_source_and_the_other_way_round() -> None:
    assert sorted(map(short, instantiations(CUDA))) == [short(file) for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=short)
def test_every_kernel_of_a_file_is_instantiated(file: Path) -> None:
    """A template that has no instantiation is not compiled."""
    assert declared(file.read_text(encoding="utf-8")) == set(map(base, instantiations(CUDA)[file]))


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES, ids=short)
def test_a_file_compiles_without_spills_and_within_its_launch_bounds(file: Path, architecture: str) -> None:
    names = instantiations(CUDA)[file]
    compiled = compile_text(file.read_text(encoding="utf-8"), names, architecture, file=file.name, include=CUDA)
    assert not compiled.findings(), "\n".join([f"by NVRTC {version()} for {architecture}:", *compiled.findings()])
    assert set(names) <= compiled.kernels.keys()
