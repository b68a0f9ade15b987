"""Fifty updates of the 124M model beside PyTorch's from the same weights; two runs' bits."""

from __future__ import annotations

import hashlib
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

from step import Step
from train_step import DECAY, LR, config_of, drawn

# isort: split
from nanograd_gpt import AdamW
from nanograd_gpt.backend.select import to_host
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.training.loop import make_update
from nanograd_gpt.training.replay import Note

TOLERANCE = 1e-4  # nats, in float32


def batches(step: Step) -> list[Any]:
    return [random_batch(config_of(step), *step.pick((2, 256), (1, 16)), seed) for seed in range(8)]


def our_losses(step: Step, n: int, drop_rate: float, note: Note | None = None) -> tuple[list[float], str]:
    """The losses of n updates, and a hash of all parameters after them; with a note, updates are replayed."""
    model = deepcopy(drawn(replace(config_of(step), drop_rate=drop_rate))).to("cuda")
    optimizer, losses = AdamW(model.parameters(), lr=LR, weight_decay=DECAY), []
    update = make_update(model, optimizer, "cuda", note)
    for i in range(n):
        loss, _ = update([batches(step)[i % 8]], 1.0)
        losses.append(float(loss))
    digest = hashlib.sha256()
    for p in model.parameters():
        digest.update(to_host(p.data).tobytes())
    return losses, digest.hexdigest()


def pytorch(step: Step) -> None:
    import torch
    from oracle.book_model import GPTModel as Book

    torch.backends.cuda.matmul.allow_tf32 = False
    n, device = step.pick(50, 3), step.pick("cuda", "cpu")
    config = replace(config_of(step), drop_rate=0.0)
    model = Book(config.to_dict())
    weights = drawn(config).book_state_dict()
    model.load_state_dict({name: torch.tensor(a) for name, a in weights.items()}, strict=False)
    model.to(device)
    optimizer, theirs = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY), []
    for i in range(n):
        ids, targets = (torch.tensor(a, device=device) for a in batches(step)[i % 8])
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        theirs.append(loss.item())
    ours, _ = our_losses(step, n, 0.0)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    step.emit("losses beside PyTorch's", updates=n, ours=ours, theirs=theirs, worst=worst, holds=worst < TOLERANCE)


def bits(step: Step) -> None:
    notes: list[str] = []
    first, second, replayed = (our_losses(step, step.pick(20, 4), 0.1, note) for note in (None, None, notes.append))
    step.emit("two runs", equal=first == second)
    step.emit("a run by replay", equal=first == replayed, notes=notes)


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(pytorch, bits))
