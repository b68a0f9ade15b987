"""Generate text with a trained model: greedily, by sampling or beam search, or interactively."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ..backend.contract import Ints
from ..errors import InputError
from ..generation.beam import beam_search
from ..generation.sampling import Sampling
from ..generation.streaming import complete_stream, prompt_ids
from ..gpt.model import GPTModel
from ..rng import Generator
from ..tokenizer.encoding import end_of_text, padding_ids
from ..tokenizer.tokenizer import token_ids_to_text
from .converse import converse
from .options import add_model, model_from

SAMPLE_STREAM = 2  # of random numbers, separate from those of model and data
PROMPT = "Every effort moves you"
SAMPLING_DEFAULTS: dict[str, Any] = {**asdict(Sampling()), "stop": []}


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--prompt", help=f"text to continue [{PROMPT!r}]")
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", default=100, help="maximum number of new tokens [100]"
    )
    parser.add_argument("--temperature", type=float, help="0: greedy; above 0: sample [0]")
    parser.add_argument("--top-k", type=int, help="sample from the k likeliest tokens")
    parser.add_argument(
        "--top-p",
        type=float,
        help="sample from the likeliest tokens that reach this total probability [1]",
    )
    parser.add_argument(
        "--min-p",
        type=float,
        help="sample from tokens with at least this share of the highest probability [0]",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        metavar="PENALTY",
        help="above 1: tokens already in the text become less likely [1]",
    )
    parser.add_argument("--stop", action="append", default=[], help="stop before this string; may be repeated")
    parser.set_defaults(**asdict(Sampling()))
    parser.add_argument("--seed", type=int, default=123, help="seed of the sampling [123]")
    parser.add_argument("--beams", type=int, help="beam search with this many beams")
    parser.add_argument(
        "--length-penalty", type=float, metavar="PENALTY", default=1.0, help="with --beams: 0 favours short texts [1]"
    )
    parser.add_argument("--n-best", type=int, default=1, help="with --beams: number of texts to print [1]")
    parser.add_argument("--interactive", action="store_true", help="continue a text together, line by line")


def run(options: Namespace) -> int:
    model, tokenizer, _ = model_from(options)
    with np.errstate(all="ignore"):  # non-finite weights are reported in one line
        if options.interactive:
            if options.beams is not None:
                raise InputError(
                    "beams: a conversation is generated token by token; leave out --beams or --interactive"
                )
            converse(_continuation(options, model, tokenizer), options.prompt or "")
        else:
            _print_text(options, model, tokenizer)
    return 0


def _print_text(options: Namespace, model: GPTModel, tokenizer: Any) -> None:
    prompt = PROMPT if options.prompt is None else options.prompt
    ids, context = prompt_ids(prompt, tokenizer), model.config.context_length
    if len(ids) > context:
        raise InputError(f"prompt: {len(ids)} tokens are more than the model's context of {context}; shorten it")
    if options.beams is not None:
        _print_beams(options, model, tokenizer, ids)
        return
    if options.n_best != 1:
        raise InputError("n_best: only beam search returns several texts; add --beams")
    pieces = _stream(options, model, tokenizer, ids)
    first = next(pieces, "")  # before the prompt is printed, so that invalid settings print an error only
    print(token_ids_to_text(ids, tokenizer) + first, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _sampling(options: Namespace) -> Sampling:
    return Sampling(options.temperature, options.top_k, options.top_p, options.min_p, options.repetition_penalty)


def _stream(
    options: Namespace, model: GPTModel, tokenizer: Any, prompt: str | Ints, rng: Generator | None = None
) -> Iterator[str]:
    return complete_stream(
        model,
        prompt,
        tokenizer,
        options.max_new_tokens,
        _sampling(options),
        stop=options.stop,
        rng=rng or Generator(options.seed, SAMPLE_STREAM),
    )


def _continuation(options: Namespace, model: GPTModel, tokenizer: Any) -> Callable[[str], Iterator[str]]:
    """A function that continues a text; a long text is cut on the left, to leave room for the new tokens."""
    rng, context = Generator(options.seed, SAMPLE_STREAM), model.config.context_length
    _sampling(options).check(model.config.vocab_size)  # before the user is asked for a line
    kept = max(context // 2, context - options.max_new_tokens)
    return lambda text: _stream(options, model, tokenizer, prompt_ids(text, tokenizer)[-kept:], rng)


def _print_beams(options: Namespace, model: GPTModel, tokenizer: Any, ids: Ints) -> None:
    for name, default in SAMPLING_DEFAULTS.items():
        if getattr(options, name) != default:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{name}: not supported by beam search; leave out {flag} or --beams")
    beams = beam_search(
        model,
        ids,
        options.max_new_tokens,
        model.config.context_length,
        options.beams,
        options.length_penalty,
        options.n_best,
        end_of_text(tokenizer),
        padding_ids(tokenizer, model.config.vocab_size),
    )
    for beam in beams:
        score = f"{beam.score:.4f}  " if options.n_best > 1 else ""
        print(score + token_ids_to_text(beam.text, tokenizer))
