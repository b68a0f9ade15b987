"""The GPU memory that training the 124M model takes, beside PyTorch's: each contender in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from step import Step
from train_step import RUN_BEFORE, config_of, ours, pytorch

# isort: split
from nanograd_gpt.bench.step import random_batch

SIZE = 8, 1024
CONTENDERS = ["ours bf16 replayed", "best bf16", "compiled bf16", "ours fp32 replayed", "best fp32"]
DRY = ["ours fp32 replayed"]


def measured(step: Step) -> None:
    """The bytes that each contender takes, as nvidia-smi would show them, less those of CUDA itself."""
    spawn = multiprocessing.get_context("spawn")
    for name in step.pick(CONTENDERS, DRY):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            try:
                step.emit("memory", contender=name, bytes=process.submit(taken_by, name, step.dry).result())
            except (
                Exception
            ) as error:  # a contender fails with errors of its own libraries: its message becomes its result
                step.emit("memory", contender=name, error=f"{type(error).__name__}: {error}")


def taken_by(name: str, dry: bool) -> int:
    """The growth of the device's memory in use over some updates; in the process that measures one contender."""
    sys.argv = [sys.argv[0], *(["--dry-run"] if dry else [])]
    step = Step(__doc__ or "")
    with step.device() if dry else nullcontext():
        import cupy

        cupy.zeros(1)  # makes CUDA's context
        before = cupy.cuda.runtime.memGetInfo()[0]
        config = config_of(step)
        batch, (kind, *rest) = random_batch(config, *step.pick(SIZE, (1, 32))), name.split()
        mine = kind == "ours"
        update = ours(config, batch, rest[0], len(rest) > 1) if mine else pytorch(config, batch, name, "cuda")
        for _ in range(RUN_BEFORE + 2):
            update()
        cupy.cuda.Device().synchronize()
        return int(before - cupy.cuda.runtime.memGetInfo()[0])


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(measured))
