"""The train step of the 124M model beside PyTorch's: eager, with its best attention, and compiled."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import cache, partial
from time import perf_counter
from typing import Any

from step import Step

# isort: split
import numpy as np

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.precision import Precision, set_precision
from nanograd_gpt.backend.select import synchronize
from nanograd_gpt.bench.statistics import interleaved
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import GPT_CONFIG_124M, GPTConfig
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.loop import make_update
from nanograd_gpt.training.replay import RUN_BEFORE

OURS = ["ours fp32", "ours tf32", "ours bf16", "ours fp32 replayed", "ours bf16 replayed"]
SIZES = {  # B, T, and who is timed there: the book's code keeps all T x T weights, too many for the largest
    (2, 256): [*OURS, "eager", "best fp32", "best bf16"],
    (8, 1024): [*OURS, "eager", "best fp32", "best bf16", "cudnn bf16", "compiled bf16"],
    (32, 1024): ["ours bf16", "ours bf16 replayed", "best bf16", "cudnn bf16", "compiled bf16"],
}
DRY = {(1, 32): [*OURS, "eager", "best fp32", "best bf16"]}
ROUNDS = 5
LR, DECAY = 4e-4, 0.1


def config_of(step: Step) -> GPTConfig:
    small = {"vocab_size": 60, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 1}
    return GPTConfig(**{**GPT_CONFIG_124M, "context_length": 1024, **step.pick({}, small)})


@cache
def drawn(config: GPTConfig) -> GPTModel:
    """Our model on the CPU, drawn once: the 124M's random numbers take seconds."""
    return GPTModel(config, rng=Generator(1))


def ours(config: GPTConfig, batch: tuple[Any, Any], precision: Precision, replayed: bool = False) -> Callable[[], Any]:
    """One update; its loss stays on the device."""
    model = deepcopy(drawn(config)).to("cuda")
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    update = make_update(model, optimizer, "cuda", refuse if replayed else None)

    def in_precision() -> Any:
        set_precision(precision)
        return update([batch], 1.0)

    return in_precision


def refuse(why: str) -> None:
    """An update that was to be replayed is not: a result of its own, not a slower one."""
    raise RuntimeError(why)


def pytorch(config: GPTConfig, batch: tuple[Any, Any], kind: str, device: str) -> Callable[[], Any]:
    """One update: "eager" is the book's code in float32; the others have fused attention, in float32 or bf16.

    PyTorch chooses the attention kernel, but for "cudnn", which takes cuDNN's.
    """
    import best  # the fastest eager variant of the CPU comparison
    import torch
    from oracle.book_model import GPTModel as Book
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.device(device):
        model = Book(config.to_dict()) if kind == "eager" else best.GPT(config.to_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=kind != "eager")
    ids, targets = (torch.tensor(a, device=device) for a in batch)
    attention = nullcontext if "cudnn" not in kind else partial(sdpa_kernel, SDPBackend.CUDNN_ATTENTION)

    def mean_loss(ids: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())

    run = torch.compile(mean_loss) if "compiled" in kind else mean_loss

    def update() -> Any:
        optimizer.zero_grad()
        with attention(), torch.autocast(device, torch.bfloat16, enabled="bf16" in kind):
            loss = run(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return update


def compared(step: Step) -> None:
    config, device = config_of(step), step.pick("cuda", "cpu")
    for (B, T), kinds in step.pick(SIZES, DRY).items():
        batch, contenders = random_batch(config, B, T), {}
        for kind in kinds:
            started = perf_counter()
            try:
                name, *rest = kind.split()
                mine = name == "ours"
                made = ours(config, batch, rest[0], len(rest) > 1) if mine else pytorch(config, batch, kind, device)
                for _ in range(RUN_BEFORE + 1 if mine else 1):
                    made()  # compiles, records, or runs out of memory
                synchronize("cuda")
                contenders[kind] = made
                step.emit("prepared", B=B, T=T, contender=kind, seconds=perf_counter() - started)
            except (
                Exception
            ) as error:  # a contender fails with errors of its own libraries: its message becomes its result
                step.emit("train step", B=B, T=T, contender=kind, error=f"{type(error).__name__}: {error}")
        times: dict[str, list[float]] = {name: [] for name in contenders}
        peaks: dict[str, int] = {}
        for order in interleaved(list(contenders), step.pick(ROUNDS, 1)):
            for name in order:
                free_memory(step)
                times[name].append(step.milliseconds(contenders[name], rounds=1))
                peaks[name] = reserved_memory(step, name)
        for name, samples in times.items():
            facts = {"ms": float(np.median(samples)), "samples": samples, "reserved_bytes": peaks[name]}
            step.emit("train step", B=B, T=T, contender=name, **facts)
        contenders.clear()
        free_memory(step)


def free_memory(step: Step) -> None:
    """Give freed memory back, which CuPy and PyTorch keep, each from the other."""
    import cupy

    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if not step.dry and (torch := sys.modules.get("torch")):
        torch.cuda.empty_cache()


def reserved_memory(step: Step, name: str) -> int:
    """The memory that a contender's library holds after its steps, the other contenders' parameters included."""
    if name.startswith("ours"):
        import cupy

        return int(cupy.get_default_memory_pool().total_bytes())
    return 0 if step.dry else int(sys.modules["torch"].cuda.memory_reserved())


def host_time(step: Step) -> None:
    """Host time to queue an update: the lower bound of a small update's time."""
    config = config_of(step)
    update = ours(config, random_batch(config, *step.pick((2, 256), (1, 32))), "bf16")
    samples = []
    for _ in range(step.pick(10, 2)):
        synchronize("cuda")
        start = perf_counter()
        update()
        samples.append(1e3 * (perf_counter() - start))
    step.emit("host time", ms=float(np.median(samples)))


def launches(step: Step) -> None:
    """Our step's launches and waits, counted by the stand-in: in a dry run only."""
    if step.dry:
        from standin.record import record

        config = config_of(step)
        update = ours(config, random_batch(config, 1, 32), "bf16")
        update()
        record.syncs.clear()
        record.launches.clear()
        update()
        step.emit("launches", own_kernels=len(record.launches), waits=len(record.syncs), layers=config.n_layers)


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(host_time, compared, launches))
