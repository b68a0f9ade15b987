"""Generate text by sampling, beam search, or interactively."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..arguments import whole_number
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
from .options import add_model, flag_of, is_given, model_from, note
from .prompt import PROMPT, add_prompt, note_long_prompt, prompt_from, text_of

SAMPLE_STREAM = 2  # of random numbers; those of model and data are 0 and 1, sample k has SAMPLE_STREAM + k
SEED = 123
MAX_SAMPLES = 10**6
FILTERS = ("top_k", "top_p", "min_p")
SAMPLING = ("temperature", *FILTERS, "repetition_penalty")
BEAM_OPTIONS = ("length_penalty", "n_best")


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    text = parser.add_argument_group("text")
    add_prompt(text)
    text.add_argument("--max-new-tokens", type=int, metavar="N", default=100, help="maximum number of new tokens [100]")
    text.add_argument("--stop", action="append", metavar="TEXT", help="stop before this text; may be repeated [none]")
    text.add_argument("--num-samples", type=int, metavar="N", help="number of texts to sample [1]")
    text.add_argument("--interactive", action="store_true", help="continue a text together, line by line")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--temperature", type=float, metavar="X", help="0: greedy; above 0: sample [0]")
    sampling.add_argument("--top-k", type=int, metavar="K", help="sample from the K most likely tokens [all]")
    sampling.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the most likely tokens that reach this probability [1]"
    )
    sampling.add_argument(
        "--min-p", type=float, metavar="P", help="sample from tokens with this share of the highest probability [0]"
    )
    sampling.add_argument(
        "--repetition-penalty", type=float, metavar="X", help="above 1, tokens already used become less likely [1]"
    )
    sampling.add_argument("--seed", type=int, metavar="N", help=f"seed of the sampling [{SEED}]")
    beams = parser.add_argument_group("beam search")
    beams.add_argument("--beams", type=int, metavar="N", help="search with this many beams [no beam search]")
    beams.add_argument("--length-penalty", type=float, metavar="X", help="0 favours short texts [1]")
    beams.add_argument("--n-best", type=int, metavar="N", help="number of texts to print [1]")


def run(options: Namespace) -> int:
    sampling = _sampling(options)
    _check_combination(options)
    n_samples = 1 if options.num_samples is None else whole_number("num_samples", options.num_samples, 1, MAX_SAMPLES)
    if n_samples > 1 and sampling.temperature == 0:
        raise InputError("num_samples: at temperature 0 all texts are the same; add --temperature 1, for example")
    model, tokenizer, _, own_prompt = model_from(options)
    prompt = prompt_from(options)
    with np.errstate(all="ignore"):  # non-finite weights are reported in one line
        if options.interactive:
            write = _continuation(options, sampling, model, tokenizer)
            _note_without_effect(options, sampling)
            converse(write, prompt or "")
            return 0
        ids = prompt_ids(own_prompt or PROMPT if prompt is None else prompt, tokenizer)
        note_long_prompt(ids, model.config.context_length)
        if options.beams is not None:
            _print_beams(options, model, tokenizer, ids)
            return 0
        for k in range(n_samples):
            pieces = _stream(options, sampling, model, tokenizer, ids, _stream_of(options, k))
            if k == 0:
                _note_without_effect(options, sampling)
            heading = f"--- sample {k + 1} of {n_samples} ---\n" if n_samples > 1 else ""
            _print_text(pieces, heading + token_ids_to_text(ids, tokenizer))
    return 0


def _check_combination(options: Namespace) -> None:
    """Raise InputError for options that cannot be used together."""
    if options.interactive and options.beams is not None:
        raise InputError("beams: a conversation is generated token by token; leave out --beams or --interactive")
    if options.interactive and options.num_samples is not None:
        raise InputError("num_samples: a conversation is one text; leave out --num-samples or --interactive")
    if options.interactive and options.prompt == "-":
        raise InputError("prompt: --interactive reads standard input; give the text, or a file with --prompt-file")
    if options.beams is None:
        for name in BEAM_OPTIONS:
            if is_given(options, name):
                raise InputError(f"{name}: only beam search uses it; add --beams, or leave it out")
        return
    for name in (*SAMPLING, "stop", "seed", "num_samples"):
        if is_given(options, name):
            more = "; --n-best prints several texts" if name == "num_samples" else ""
            raise InputError(f"{name}: not supported by beam search; leave out {flag_of(name)} or --beams{more}")


def _note_without_effect(options: Namespace, sampling: Sampling) -> None:
    """Print a note that names the given options that change nothing at temperature 0."""
    unused = [flag_of(name) for name in (*FILTERS, "seed") if is_given(options, name)]
    if unused and sampling.temperature == 0:
        names = " and ".join(filter(None, [", ".join(unused[:-1]), unused[-1]]))
        has = "has" if len(unused) == 1 else "have"
        note(f"{names} {has} no effect at temperature 0; add --temperature 1 to sample")


def _sampling(options: Namespace) -> Sampling:
    return Sampling(**{name: getattr(options, name) for name in SAMPLING if is_given(options, name)})


def _stream_of(options: Namespace, k: int = 0) -> Generator:
    """The random numbers of sample k, which do not depend on the number of samples."""
    return Generator(SEED if options.seed is None else options.seed, SAMPLE_STREAM + k)


def _stream(
    options: Namespace, sampling: Sampling, model: GPTModel, tokenizer: Any, prompt: str | Ints, rng: Generator
) -> Iterator[str]:
    stop = [text_of(text, "stop") for text in options.stop or []]
    return complete_stream(model, prompt, tokenizer, options.max_new_tokens, sampling, stop=stop, rng=rng)


def _print_text(pieces: Iterator[str], before: str) -> None:
    first = next(pieces, "")  # before anything is printed, so that a model that fails prints an error only
    print(before + first, end="", flush=True)
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    finally:  # after Ctrl-C too
        print(flush=True)


def _continuation(
    options: Namespace, sampling: Sampling, model: GPTModel, tokenizer: Any
) -> Callable[[str], Iterator[str]]:
    """A function that continues a text; a long text is cut on the left, so that the new tokens fit."""
    rng, context = _stream_of(options), model.config.context_length
    sampling.check(model.config.vocab_size)  # before the user is asked for a line
    kept = max(context // 2, context - options.max_new_tokens)
    return lambda text: _stream(options, sampling, model, tokenizer, prompt_ids(text, tokenizer)[-kept:], rng)


def _print_beams(options: Namespace, model: GPTModel, tokenizer: Any, ids: Ints) -> None:
    n_best = 1 if options.n_best is None else options.n_best
    beams = beam_search(
        model,
        ids,
        options.max_new_tokens,
        model.config.context_length,
        options.beams,
        1.0 if options.length_penalty is None else options.length_penalty,
        n_best,
        end_of_text(tokenizer),
        padding_ids(tokenizer, model.config.vocab_size),
    )
    for beam in beams:
        score = f"{beam.score:.4f}  " if n_best > 1 else ""
        print(score + token_ids_to_text(beam.text, tokenizer))
