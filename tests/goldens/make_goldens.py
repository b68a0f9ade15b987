"""Write what PyTorch computes with the document's model, so that the tests can check it without PyTorch.

    cd tests && python -m goldens.make_goldens

Each tests/goldens/NAME.npz holds, in float64 and without dropout:

    torch                      the version that computed it
    config, adamw              the sizes in CONFIG's order, the settings in ADAMW's
    ids, targets               (BATCHES, B, T)
    weights/*                  the model to start with, in the order of named_parameters()
    logits, loss, gradients/*  of the first batch
    losses, final/*            of STEPS updates, batch after batch and round again: before each update, after the last
    continuation               the first PROMPT ids and NEW_TOKENS greedy ones, well past the context length

Weights and ids come from no random generator of a library, but from the integer hash below: the same everywhere, and
multiples of a power of two, which compress well.  Running this twice writes the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from oracle.book_model import GPTModel, calc_loss_batch, generate_text, training_step

HERE = Path(__file__).parent
CONFIG = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers", "qkv_bias")
ADAMW = ("lr", "beta1", "beta2", "eps", "weight_decay")
BATCHES, STEPS, PROMPT, NEW_TOKENS = 4, 20, 3, 30

CASES: dict[str, dict[str, Any]] = {
    "plain": {
        "config": (32, 8, 16, 2, 2, False),
        "shape": (2, 8),
        "adamw": (4e-4, 0.9, 0.999, 1e-8, 0.1),  # the document's
    },
    "qkv_bias": {
        "config": (19, 6, 12, 3, 2, True),
        "shape": (3, 4),  # shorter than the context
        "adamw": (5e-3, 0.8, 0.95, 1e-6, 0.3),
    },
    "one_head": {
        "config": (11, 5, 4, 1, 1, True),
        "shape": (1, 5),
        "adamw": (4e-4, 0.9, 0.999, 1e-8, 0.1),
    },
}


def numbers(n: int, stream: int) -> npt.NDArray[np.uint64]:
    """n words of 64 bits: the counters (stream, 0 .. n - 1), mixed as splitmix64 does (Steele et al. 2014)."""
    z = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(stream << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def grid(shape: torch.Size, stream: int) -> npt.NDArray[np.float64]:
    """Multiples of 2^-8 in [-1, 1)"""
    words = numbers(shape.numel(), stream)
    return ((words >> np.uint64(55)).astype(np.float64) / 256 - 1).reshape(shape)


def starting_model(cfg: dict[str, Any]) -> GPTModel:
    """Every tensor drawn, none left at 0 or 1: so that a scale, a shift or a bias that is lost shows."""
    model = GPTModel(cfg).double()
    with torch.no_grad():
        for stream, (name, p) in enumerate(model.named_parameters()):
            drawn = torch.from_numpy(grid(p.shape, stream))
            if name.endswith("scale"):
                drawn = 1 + drawn / 4
            elif name != "tok_emb.weight":  # which stays large, so that the text does not run into one token
                drawn = drawn / 2 if p.ndim == 2 else drawn / 4
            p.copy_(drawn)
    return model


def golden(config: tuple[Any, ...], shape: tuple[int, int], adamw: tuple[float, ...]) -> dict[str, npt.NDArray[Any]]:
    """All arrays of one file."""
    cfg = dict(zip(CONFIG, config, strict=True)) | {"drop_rate": 0.0}
    model = starting_model(cfg)
    B, T = shape
    drawn = numbers(BATCHES * B * (T + 1), stream=1000) % np.uint64(cfg["vocab_size"])
    windows = torch.from_numpy(drawn.astype(np.int64)).reshape(BATCHES, B, T + 1)
    ids, targets = windows[..., :-1], windows[..., 1:]
    out: dict[str, Any] = {
        "torch": str(torch.__version__),
        "config": config,
        "adamw": adamw,
        "ids": ids,
        "targets": targets,
    }
    out |= {f"weights/{name}": p.detach().clone() for name, p in model.named_parameters()}

    out["continuation"] = generate_text(model, ids[0, :1, :PROMPT], NEW_TOKENS, cfg["context_length"])
    out["logits"] = model(ids[0]).detach()
    loss = calc_loss_batch(ids[0], targets[0], model)
    loss.backward()
    out["loss"] = loss.detach()
    out |= {f"gradients/{name}": p.grad.clone() for name, p in model.named_parameters()}

    lr, beta1, beta2, eps, weight_decay = adamw
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, foreach=False
    )
    batches = [(ids[i % BATCHES], targets[i % BATCHES]) for i in range(STEPS)]
    out["losses"] = [training_step(x, y, model, optimizer) for x, y in batches]
    out |= {f"final/{name}": p.detach() for name, p in model.named_parameters()}
    return {name: np.asarray(value) for name, value in out.items()}


def main() -> None:
    torch.set_num_threads(1)  # sums in one order
    for name, case in CASES.items():
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **golden(**case))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
