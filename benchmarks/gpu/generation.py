"""Generation with the 124M model beside PyTorch's with a key-value cache; each token is read by the host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from step import Step, relative_error
from train_step import config_of

# isort: split
import best  # the fastest eager variant of the CPU comparison
import numpy as np
import torch
from torch.nn import functional as F

from nanograd_gpt import GPTModel, Sampling, generate_batch
from nanograd_gpt.backend.precision import Precision, set_precision
from nanograd_gpt.bench.statistics import interleaved
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.rng import Generator

PROMPT = 4  # tokens
SIZES = [(1, 50), (1, 200), (16, 200)]  # B, new tokens
ROUNDS = 3
TOLERANCE = 1e-4  # of the first token's logits in float32, relative
FILTERED = Sampling(0.8, top_k=50, top_p=0.9)

Contender = Callable[[Any, int], Any]  # prompts (B, T) and a number of new tokens  ->  what came of it


def ours(model: GPTModel, precision: Precision, sampling: Sampling) -> Contender:
    def text(prompts: Any, n: int) -> Any:
        set_precision(precision)
        length = model.config.context_length
        return generate_batch(model, list(prompts), n, length, sampling, rng=Generator(1))

    return text


class Cached:
    """PyTorch's model with a cache that grows by concatenation, as Hugging Face's does."""

    def __init__(self, weights: dict[str, Any], config: GPTConfig, device: str) -> None:
        self.model, self.device = best.GPT(config.to_dict()).to(device).eval(), device
        torch_weights = {name: torch.tensor(array) for name, array in weights.items()}
        self.model.load_state_dict(best.renamed(torch_weights, config.n_layers))

    def next_logits(self, ids: Any, cache: list[Any]) -> Any:
        """ids (B, T)  ->  logits (B, V); adds to the cache, which has an entry (K, V) for each layer"""
        start = cache[0][0].shape[2] if cache else 0
        (B, T), first = ids.shape, not cache
        x = self.model.tokens(ids) + self.model.positions.weight[start : start + T]
        for i, block in enumerate(self.model.blocks):
            q, *new = block.qkv(block.norm1(x)).view(B, T, 3, block.n_heads, -1).permute(2, 0, 3, 1, 4)
            kept = new if first else [torch.cat(pair, 2) for pair in zip(cache[i], new, strict=True)]
            cache[i : i + 1] = [kept]
            context = F.scaled_dot_product_attention(q, *kept, is_causal=first)
            x = x + block.project(context.transpose(1, 2).reshape(B, T, -1))
            x = x + block.narrow(F.gelu(block.widen(block.norm2(x)), approximate="tanh"))
        return self.model.head(self.model.norm(x[:, -1]))

    def greedy(self, tf32: bool) -> Contender:
        @torch.inference_mode()
        def text(prompts: Any, n: int) -> Any:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            ids, cache = torch.tensor(prompts, device=self.device), list[Any]()
            rows = prompts.tolist()
            for _ in range(n):
                ids = self.next_logits(ids, cache).argmax(-1, keepdim=True)
                for row, token in zip(rows, ids[:, 0].tolist(), strict=True):
                    row.append(token)
            return rows

        return text


def compared(step: Step) -> None:
    config = replace(config_of(step), drop_rate=0.0)
    model = GPTModel(config, rng=Generator(5)).eval()
    theirs = Cached(model.state_dict(), config, step.pick("cuda", "cpu"))
    model.to("cuda")
    prompts = np.random.default_rng(3).integers(0, config.vocab_size, (16, PROMPT))
    with torch.inference_mode():
        exact = theirs.next_logits(torch.tensor(prompts, device=theirs.device), []).cpu().double().numpy()
    error = relative_error(model.next_token_logits(prompts).data, exact)
    step.emit("logits beside PyTorch's", relative_error=error, holds=error < TOLERANCE)
    contenders = {
        "ours fp32": ours(model, "fp32", Sampling()),
        "ours tf32": ours(model, "tf32", Sampling()),
        "ours fp32, top-k and top-p": ours(model, "fp32", FILTERED),
        "cached fp32": theirs.greedy(tf32=False),
        "cached tf32": theirs.greedy(tf32=True),
    }
    for B, n in step.pick(SIZES, [(1, 3), (2, 3)]):
        texts = {name: contender(prompts[:B], n) for name, contender in contenders.items()}  # a warm-up
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for order in interleaved(list(contenders), step.pick(ROUNDS, 1)):
            for name in order:
                start = perf_counter()
                contenders[name](prompts[:B], n)
                times[name].append(1e3 * (perf_counter() - start))
        for name, samples in times.items():
            common = min(map(in_common, texts["cached fp32"], texts[name]))
            per_second = B * n / float(np.median(samples)) * 1e3
            facts = {"samples": samples, "tokens_per_second": per_second, "tokens_in_common": common}
            step.emit("generation", B=B, n=n, contender=name, ms=float(np.median(samples)), **facts)
    set_precision("fp32")


def in_common(a: Any, b: Any) -> int:
    """The number of tokens that two texts share from the start."""
    return int(np.cumprod(np.array(a) == np.array(b)).sum())


if __name__ == "__main__":
    sys.exit(Step(__doc__).run(compared))
