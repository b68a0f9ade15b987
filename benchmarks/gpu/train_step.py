"""The train step of the 124M model beside PyTorch's: eager, with its best attention, and compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from step import Step

# isort: split
import numpy as np

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.precision import PRECISIONS, Precision, set_precision
from nanograd_gpt.bench.statistics import interleaved
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import GPT_CONFIG_124M, GPTConfig
from nanograd_gpt.rng import Generator

SIZES = {  # B, T, and who is timed there beside us: the book's code keeps all T x T weights
    (2, 256): ["eager", "best fp32", "best bf16"],
    (8, 1024): ["eager", "best fp32", "best bf16", "compiled bf16"],
    (32, 1024): ["best fp32", "best bf16", "compiled bf16"],
}
DRY = {(1, 32): ["eager", "best fp32", "best bf16"]}
ROUNDS = 5
LR, DECAY = 4e-4, 0.1


def config_of(step: Step) -> GPTConfig:
    small = {"vocab_size": 60, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 1}
    return GPTConfig(**{**GPT_CONFIG_124M, "context_length": 1024, **step.pick({}, small)})


def ours(config: GPTConfig, batch: tuple[Any, Any], precision: Precision) -> Callable[[], Any]:
    """One update; its loss stays on the device."""
    model = GPTModel(config, rng=Generator(1)).to("cuda")
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    ids, targets = batch

    def update() -> Any:
        set_precision(precision)
        optimizer.zero_grad()
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.step(1.0)
        return loss

    return update


def pytorch(config: GPTConfig, batch: tuple[Any, Any], kind: str, device: str) -> Callable[[], Any]:
    """One update: "eager" is the book's code in float32; the others have fused attention, in float32 or bf16."""
    import best  # the fastest eager variant of the CPU comparison
    import torch
    from oracle.book_model import GPTModel as Book

    model = (Book(config.to_dict()) if kind == "eager" else best.GPT(config.to_dict())).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=kind != "eager")
    run = torch.compile(model) if "compiled" in kind else model
    ids, targets = (torch.tensor(a, device=device) for a in batch)

    def update() -> Any:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled="bf16" in kind):
            logits = run(ids)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return update


def free_memory(step: Step) -> None:
    """Return what the last size took: CuPy and PyTorch keep freed memory, each from the other."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    if not step.dry and (torch := sys.modules.get("torch")):
        torch.cuda.empty_cache()


def compared(step: Step) -> None:
    config, device = config_of(step), step.pick("cuda", "cpu")
    for (B, T), kinds in step.pick(SIZES, DRY).items():
        free_memory(step)
        batch = random_batch(config, B, T)
        contenders = {f"ours {precision}": ours(config, batch, precision) for precision in PRECISIONS}
        for kind in kinds:
            try:
                contenders[kind] = pytorch(config, batch, kind, device)
                contenders[kind]()  # compiles, or runs out of memory
            except Exception as error:  # PyTorch may be missing, or out of memory: the others still count
                contenders.pop(kind, None)
                step.emit("train step", B=B, T=T, contender=kind, error=f"{type(error).__name__}: {error}")
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for order in interleaved(list(contenders), step.pick(ROUNDS, 1)):
            for name in order:
                times[name].append(step.milliseconds(contenders[name], rounds=1))
        for name, samples in times.items():
            median = float(np.median(samples))
            step.emit("train step", B=B, T=T, contender=name, ms=median, samples=samples)


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
    sys.exit(Step(__doc__).run(compared, launches))
