"""Write small random GPT-2s as transformers save them, with what they compute, for tests without transformers.

    cd tests && python -m goldens.make_pretrained_goldens

Each tests/goldens/gpt2_NAME/ holds model.safetensors and config.json as GPT2LMHeadModel.save_pretrained writes them,
and computed.npz: ids (B, T + 1), and in float64 the logits of all but the last of each row, and their mean loss.
The weights are make_goldens.py's multiples of 2^-8: the same everywhere, and exact in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from goldens.make_goldens import grid, numbers
from transformers import GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
CASES = {  # vocab_size, n_positions, n_embd, n_head, n_layer, tied; (B, T)
    "tied": ((29, 8, 12, 3, 2, True), (2, 8)),
    "apart": ((17, 6, 8, 2, 1, False), (3, 5)),
    "deep": ((11, 5, 4, 1, 4, True), (1, 5)),
}


def model_of(sizes: tuple[int, int, int, int, int, bool]) -> GPT2LMHeadModel:
    """Every tensor drawn, none left at 0 or 1, so that one that is lost or swapped shows."""
    V, length, C, H, L, tied = sizes
    config = GPT2Config(
        vocab_size=V, n_positions=length, n_embd=C, n_head=H, n_layer=L, tie_word_embeddings=tied, bos_token_id=V - 1,
        eos_token_id=V - 1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for stream, (name, p) in enumerate(model.named_parameters()):
            drawn = torch.from_numpy(grid(p.shape, stream))
            p.copy_(1 + drawn / 4 if "ln_" in name and name.endswith("weight") else drawn / 2)
    return model


def write(name: str) -> None:
    sizes, (B, T) = CASES[name]
    model, folder = model_of(sizes), HERE / f"gpt2_{name}"
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    drawn = numbers(B * (T + 1), stream=1000) % np.uint64(sizes[0])
    ids = torch.from_numpy(drawn.astype(np.int64)).reshape(B, T + 1)
    with torch.no_grad():
        logits = model.double()(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    np.savez_compressed(folder / "computed.npz", ids=ids.numpy(), logits=logits.numpy(), loss=loss.numpy())


if __name__ == "__main__":
    for name in CASES:
        write(name)
