"""The document's training in PyTorch, on this machine, for the log of scripts/04_the_books_numbers.py to stand beside.

    python benchmarks/book_in_pytorch.py --data the-verdict.txt [--out results/book_pytorch.json]

Needs PyTorch, which nothing else in the project does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import nanograd_gpt as ng
from nanograd_gpt.training.corpus import load_text, split_text
from nanograd_gpt.training.data import GPTDatasetV1
from nanograd_gpt.training.run import environment

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from oracle.book_model import GPTModel, calc_loss_batch, generate_text, training_step

PROMPT = "Every effort moves you"


def mean_loss(model: GPTModel, loader: DataLoader, n_batches: int) -> float:
    total, n = 0.0, min(n_batches, len(loader))
    for i, (inputs, targets) in enumerate(loader):
        if i == n:
            break
        total += calc_loss_batch(inputs, targets, model).item()
    return total / n


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="the-verdict")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "book_pytorch.json")
    options = parser.parse_args()

    tokenizer = ng.get_tokenizer("gpt2")
    train_text, val_text, _ = split_text(load_text(options.data))
    loaders = [
        DataLoader(GPTDatasetV1(text, tokenizer, 256, 256), batch_size=2, shuffle=train, drop_last=train)
        for text, train in ((train_text, True), (val_text, False))
    ]
    torch.manual_seed(123)
    model = GPTModel(ng.GPT_CONFIG_124M)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)
    evaluations, samples, step = [], [], -1
    for epoch in range(1, 11):
        model.train()
        for inputs, targets in loaders[0]:
            training_step(inputs, targets, model, optimizer)
            step += 1
            if step % 5 == 0:
                model.eval()
                with torch.no_grad():
                    train_loss, val_loss = (mean_loss(model, loader, 5) for loader in loaders)
                model.train()
                evaluations.append({"step": step, "train_loss": train_loss, "val_loss": val_loss})
                print(f"Ep {epoch} (Step {step:06d}): Train loss {train_loss:.3f}, Val loss {val_loss:.3f}", flush=True)
        model.eval()
        ids = torch.tensor(ng.text_to_token_ids(PROMPT, tokenizer))
        text = generate_text(model, ids, max_new_tokens=50, context_size=256)
        samples.append(ng.token_ids_to_text(text.numpy(), tokenizer).replace("\n", " "))
        print(samples[-1], flush=True)
    facts = {"evaluations": evaluations, "samples": samples}
    about = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), **environment()}
    options.out.write_text(json.dumps({**facts, "environment": about}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
