"""One rank of two updates; rank 0 prints the bytes that the parameters take, and what each rank holds after them."""

from __future__ import annotations

import json
import sys

import numpy as np
from mpi4py import MPI

from nanograd_gpt import AdamW, GPTModel
from nanograd_gpt.backend.cpu.allocator import give_freed_memory_back
from nanograd_gpt.parallel.mpi_ranks import MPIRanks
from nanograd_gpt.rng import Generator

SIZES = {"vocab_size": 4000, "context_length": 8, "emb_dim": 768, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}


def resident() -> int:
    """Bytes of memory that is this process's alone."""
    with open("/proc/self/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith("RssAnon:")).split()[1]) << 10


ranks = MPIRanks(MPI.COMM_WORLD)
sharded = json.loads(sys.argv[1])
ids = np.arange(8)[None]


def update(model: GPTModel, optimizer: AdamW) -> None:
    optimizer.zero_grad()
    ranks.backward(model.loss(ids, ids), optimizer, last=True)
    ranks.sum_gradients(optimizer)
    ranks.step(optimizer, 1.0)
    give_freed_memory_back()


small = GPTModel({**SIZES, "emb_dim": 8, "vocab_size": 10}, rng=Generator(1))
update(small, AdamW(small.parameters()))  # what MPI and the libraries allocate once
before = resident()
model = GPTModel(SIZES, rng=Generator(1))
optimizer = AdamW(model.parameters())
ranks.sharded = sharded
ranks.share(optimizer)
for _ in range(2):
    update(model, optimizer)
held = MPI.COMM_WORLD.gather(resident() - before)
if ranks.rank == 0:
    print(json.dumps({"parameters": sum(p.data.nbytes for p in model.parameters()), "held": held}))
ranks.watchdog.end()
