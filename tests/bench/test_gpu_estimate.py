"""The estimate of GPU memory against the bytes of the arrays that are alive at once on the stand-in for CuPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cusim.checks import needs_compiler
from standin import device_array
from standin.cupy_standin import installed
from standin.memory import used_bytes

from nanograd_gpt.backend.logits import GPU_LOGITS_BYTES
from nanograd_gpt.backend.precision import set_precision
from nanograd_gpt.bench.gpu_estimate import gpu_memory_bytes
from nanograd_gpt.gpt.config import PRESETS, GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator

WORKSPACE = 32 << 20  # of the products, which the estimate leaves out
SIZES = {  # vocabulary, context, channels, heads, layers, dropout rate; batch
    "short": ((512, 32, 64, 2, 2, 0.1), 4),
    "no dropout": ((512, 64, 64, 2, 4, 0.0), 8),
    "large vocabulary": ((2048, 64, 64, 2, 1, 0.1), 8),
    "long": ((128, 128, 64, 4, 3, 0.1), 2),
}


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The most bytes in use since the list was cleared, on the stand-in."""
    most: list[int] = []

    def allocate(size: int) -> None:
        most[:] = [max([*most, used_bytes() + size])]

    monkeypatch.setattr(device_array, "allocate", allocate)
    with installed():
        yield most
    set_precision("fp32")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("sizes", "batch_size"), SIZES.values(), ids=SIZES.keys())
def test_the_arrays_of_an_update_are_estimated_within_a_tenth(
    sizes: tuple[float, ...], batch_size: int, precision: str, peak: list[int]
) -> None:
    set_precision(precision)
    config = GPTConfig(*sizes)  # type: ignore[arg-type]  # one tuple for fields of several types
    model = GPTModel(config, rng=Generator(1)).to("cuda")
    optimizer = AdamW(model.parameters())
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (batch_size, config.context_length + 1))
    for _ in range(2):
        peak.clear()
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step(1.0)
    assert 0.9 < gpu_memory_bytes(config, batch_size) / (peak[0] - WORKSPACE) < 1.1


def test_logits_beyond_their_share_count_as_two_chunks() -> None:
    model = PRESETS["gpt2-124m"]
    more = gpu_memory_bytes(model, 1024) - gpu_memory_bytes(model, 512)
    saved = gpu_memory_bytes(model, 2) - gpu_memory_bytes(model, 1) - 4 * model.context_length * model.vocab_size
    assert more == 512 * saved
    assert gpu_memory_bytes(model, 512) > 2 * GPU_LOGITS_BYTES
