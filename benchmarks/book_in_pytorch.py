"""The book's training in PyTorch on this machine, to compare scripts/the_books_numbers.py with.

    python benchmarks/book_in_pytorch.py --data the-verdict.txt [--appendix-d] [--out FILE.json]

Chapter 5's goes to results/book_pytorch.json; with --appendix-d the book's longer trainer, to
results/appendix_d_pytorch.json.  Needs PyTorch.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Parser, run, writable

# isort: split
import torch
from tiktoken import Encoding
from torch import Tensor
from torch.utils.data import DataLoader

import nanograd_gpt as ng
from nanograd_gpt.environment import environment
from nanograd_gpt.training.corpus import load_text, split_text
from nanograd_gpt.training.data import GPTDatasetV1

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from oracle.book_model import GPTModel, calc_loss_batch, generate_text, training_step

PROMPT = "Every effort moves you"
RESULTS = Path(__file__).parent / "results"

Update = Callable[[int, Tensor, Tensor], object]  # step from 0, inputs, targets


def loaders_of(text: str, tokenizer: Encoding, context_length: int) -> list[DataLoader]:
    """The training loader, reshuffled every epoch, and the validation loader."""
    loaders = []
    for part, train in zip(split_text(text), (True, False), strict=False):
        windows = [(torch.tensor(x), torch.tensor(y)) for x, y in GPTDatasetV1(part, tokenizer, *[context_length] * 2)]
        loaders.append(DataLoader(windows, batch_size=2, shuffle=train, drop_last=train))
    return loaders


def mean_loss(model: GPTModel, loader: DataLoader, n_batches: int) -> float:
    total, n = 0.0, min(n_batches, len(loader))
    for i, (inputs, targets) in enumerate(loader):
        if i == n:
            break
        total += calc_loss_batch(inputs, targets, model).item()
    return total / n


def train(
    model: GPTModel,
    loaders: list[DataLoader],
    tokenizer: Encoding,
    update: Update,
    *,
    epochs: int,
    eval_iter: int,
) -> dict[str, Any]:
    """Run all updates, with an evaluation after every fifth and a sample after every epoch."""
    evaluations, samples, step = [], [], -1
    for epoch in range(1, epochs + 1):
        model.train()
        for inputs, targets in loaders[0]:
            step += 1
            update(step, inputs, targets)
            if step % 5 == 0:
                model.eval()
                with torch.no_grad():
                    train_loss, val_loss = (mean_loss(model, loader, eval_iter) for loader in loaders)
                model.train()
                evaluations.append({"step": step, "train_loss": train_loss, "val_loss": val_loss})
                print(f"Ep {epoch} (Step {step:06d}): Train loss {train_loss:.3f}, Val loss {val_loss:.3f}", flush=True)
        model.eval()
        ids = torch.tensor(ng.text_to_token_ids(PROMPT, tokenizer))
        text = generate_text(model, ids, max_new_tokens=50, context_size=model.pos_emb.weight.shape[0])
        samples.append(ng.token_ids_to_text(text.numpy(), tokenizer).replace("\n", " "))
        print(samples[-1], flush=True)
    return {"evaluations": evaluations, "samples": samples}


def chapter_5(model: GPTModel, loaders: list[DataLoader], tokenizer: Encoding) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)

    def update(step: int, inputs: Tensor, targets: Tensor) -> None:
        training_step(inputs, targets, model, optimizer)

    return train(model, loaders, tokenizer, update, epochs=10, eval_iter=5)


def appendix_d(model: GPTModel, loaders: list[DataLoader], tokenizer: Encoding, epochs: int = 15) -> dict[str, Any]:
    """Warm-up over a fifth of the updates, cosine decay, and clipping after the warm-up.

    The peak, 0.001, was AdamW's default when the book's log was made.  The learning rates are stored too.
    """
    initial, peak, minimum = 1e-5, 1e-3, 1e-5
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.1)
    total = epochs * len(loaders[0])
    warmup = int(0.2 * total)
    rates = []

    def update(step: int, inputs: Tensor, targets: Tensor) -> None:
        if step < warmup:
            rate = initial + step * ((peak - initial) / warmup)
        else:
            progress = (step - warmup) / (total - warmup)
            rate = minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rates.append(rate)
        optimizer.zero_grad()
        calc_loss_batch(inputs, targets, model).backward()
        if step > warmup:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()

    return {**train(model, loaders, tokenizer, update, epochs=epochs, eval_iter=1), "rates": rates}


def main() -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="the-verdict")
    parser.add_argument("--appendix-d", action="store_true", help="the trainer of appendix D")
    parser.add_argument("--out", type=Path, help="results/book_pytorch.json, or appendix_d_pytorch.json")
    options = parser.parse_args()

    out = options.out or RESULTS / ("appendix_d_pytorch.json" if options.appendix_d else "book_pytorch.json")
    writable(out.parent)
    tokenizer = ng.get_tokenizer("gpt2")
    loaders = loaders_of(load_text(options.data), tokenizer, 256)
    torch.manual_seed(123)
    model = GPTModel(ng.GPT_CONFIG_124M)
    facts = (appendix_d if options.appendix_d else chapter_5)(model, loaders, tokenizer)
    about = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), **environment()}
    out.write_text(json.dumps({**facts, "environment": about}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
