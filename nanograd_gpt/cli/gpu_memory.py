"""The error of a training for which the GPU's memory is too small: what to lower, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..backend.cuda_probe import is_out_of_memory
from ..backend.select import gpu_memory
from ..bench.fits import largest_batch, longest_context, most_layers, usable_bytes
from ..bench.gpu_estimate import gpu_memory_bytes
from ..errors import RunError
from ..training.config import RunConfig
from .info import gigabytes


@contextmanager
def gpu_memory_named(config: RunConfig, otherwise: str = "") -> Iterator[None]:
    """Raise RunError with settings that fit, where the GPU's memory is used up; `otherwise` is another way out."""
    try:
        yield
    except (
        Exception
    ) as error:  # CuPy's error class cannot be imported where CuPy is not installed; other errors are raised again
        if not is_out_of_memory(error):
            raise
        available, estimate = gpu_memory(), gpu_memory_bytes(config.model, config.data.batch_size)
        raise RunError(
            f"training: the GPU's memory is used up ({gigabytes(available)} for arrays; the estimate is "
            f"{gigabytes(estimate)}); {smaller(config, available)}{otherwise}"
        ) from None


def smaller(config: RunConfig, available: int) -> str:
    """The settings to start a new run with: a smaller batch if one fits, or else fewer layers or a shorter context."""
    model, B = config.model, config.data.batch_size
    fits = usable_bytes(model, B, available)
    if batch := largest_batch(model, B, fits):
        divisor = next(b for b in range(batch, 0, -1) if B % b == 0)
        accumulate = config.training.accumulate * B // divisor
        same = f"--accumulate {accumulate}, which makes the same updates"
        least = f"with {same}" if divisor == batch else f"or --batch-size {divisor} with {same}"
        return f"start a new run with --batch-size {batch}, which should fit, {least}"
    layers = 0 if config.training.weights else most_layers(model, fits)
    sizes = [f"--n-layers {layers}"] if layers else []
    if context := longest_context(model, fits):
        sizes.append(f"--context-length {context}")
    if not sizes:
        return "start a new run with a smaller --emb-dim or vocabulary, or with --device cpu"
    one = "" if B == 1 else "--batch-size 1 and "
    return f"start a new run with {one}{' or '.join(sizes)}, which should fit"
