"""Greedy generation compared with the book's code, without a cache, and Hugging Face's, with one.

    python benchmarks/generation.py [--rounds N]

Refuses to time models whose logits differ.  1 new token measures the prompt; samples of 1, 50 and 200 new tokens go
to results/generation.json, those of batches of longer prompts, by the two with a cache, to generation_batches.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness import agree, contenders, new_parser, parsed, report, run, same_twice, take_turns, weights_of, write

# isort: split
import numpy as np
from setups import LARGE, QUICK, Setup

from nanograd_gpt import get_tokenizer, text_to_token_ids

PROMPT = "Every effort moves you"
NAMES = ["ours", "document", "huggingface"]
LENGTHS = [1, 50, 200]
CACHED = ["ours", "huggingface"]
BATCHES = [(B, T) for T in (32, 512) for B in (1, 4, 16)]  # equal prompts, and their tokens
NEW = 20  # tokens of each


def main(argv: Sequence[str] | None = None) -> int:
    options = parsed(new_parser(__doc__, rounds=7), argv, "torch", "transformers")
    lengths = [1, 5, 9] if options.quick else LENGTHS
    setup, batches = (QUICK, [(2, 8)]) if options.quick else (LARGE, BATCHES)
    write(options, "generation_batches.json", of_batches(setup, batches, options.rounds, options.threads))
    write(options, "generation.json", compared(setup, lengths, options.rounds, options.threads))
    return 0


def compared(setup: Setup, lengths: Sequence[int], rounds: int, threads: int) -> dict[str, Any]:
    """Samples of each length by each contender."""
    prompt = text_to_token_ids(PROMPT, get_tokenizer("gpt2"))[0] % setup.config.vocab_size
    ids = prompt.tolist()
    facts: dict[str, Any] = {"setup": setup.facts(), "prompt": PROMPT, "rounds": rounds, "samples": {}}
    with weights_of(setup) as weights:
        ready = {"config": setup.config.to_dict(), "weights": weights, "batches": []}
        with contenders(["ours", "ours again"], threads) as running:
            for contender in running.values():
                contender.ask("prepare", **ready)
                contender.ask("generate", ids=ids, n=2)
            facts["same_twice"] = _without_ids(take_turns(running, rounds, "generate", ids=ids, n=lengths[1]))
            ratio = same_twice(facts["same_twice"])
            facts["too_noisy"] = ratio.too_noisy
            print(f"  ours / ours again: {ratio}{': too noisy' if ratio.too_noisy else ''}")
        with contenders(NAMES, threads) as running:
            for contender in running.values():
                contender.ask("prepare", **ready)
            agree({name: contender.ask("logits", ids=ids)["logits"] for name, contender in running.items()})
            texts = {
                name: contender.ask("generate", ids=ids, n=lengths[1])["ids"] for name, contender in running.items()
            }
            facts["tokens_in_common"] = {name: _in_common(texts["ours"], text) for name, text in texts.items()}
            for n in lengths:
                facts["samples"][str(n)] = _without_ids(take_turns(running, rounds, "generate", ids=ids, n=n))
                print(f" {n} new tokens")
                report(facts["samples"][str(n)])
            ends = {name: contender.ask("quit") for name, contender in running.items()}
    facts["versions"] = {package: v for end in ends.values() for package, v in end["versions"].items()}
    return facts


def of_batches(setup: Setup, batches: Sequence[tuple[int, int]], rounds: int, threads: int) -> dict[str, Any]:
    """Samples of each batch by those with a cache, of a model whose context holds the longest prompt and its text."""
    setup = replace(setup, config=replace(setup.config, context_length=max(T for _, T in batches) + NEW))
    facts: dict[str, Any] = {"setup": setup.facts(), "rounds": rounds, "new": NEW, "batches": {}}
    with weights_of(setup) as weights, contenders(CACHED, threads) as running:
        for contender in running.values():
            contender.ask("prepare", config=setup.config.to_dict(), weights=weights, batches=[])
        for rows, T in batches:
            ids = np.random.default_rng(T).integers(0, setup.config.vocab_size, T).tolist()
            agree({name: contender.ask("logits", ids=ids)["logits"] for name, contender in running.items()})
            samples = _without_ids(take_turns(running, rounds, "generate", ids=ids, n=NEW, rows=rows))
            facts["batches"][f"{rows} x {T}"] = samples
            print(f" {rows} prompts of {T} tokens")
            report(samples)
        ends = {name: contender.ask("quit") for name, contender in running.items()}
    facts["versions"] = {package: v for end in ends.values() for package, v in end["versions"].items()}
    return facts


def _without_ids(samples: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        name: [{k: v for k, v in sample.items() if k != "ids"} for sample in taken] for name, taken in samples.items()
    }


def _in_common(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of tokens that two texts share from the start."""
    return int(np.cumprod(np.array(a) == np.array(b)).sum())


if __name__ == "__main__":
    sys.exit(run(main))
