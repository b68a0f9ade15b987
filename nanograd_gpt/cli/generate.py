"""Continue a prompt with a trained model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import InputError
from ..gpt.generate import generate_text
from ..gpt.tokenizer import text_to_token_ids, token_ids_to_text
from ..rng import Generator
from .options import add_model, model_from

SAMPLE_STREAM = 2  # of random numbers, apart from the model's and the data's


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--prompt", default="Every effort moves you", help="the text to continue")
    parser.add_argument("--max-new-tokens", type=int, default=100, help="how many tokens to add")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token; above: sample")
    parser.add_argument("--top-k", type=int, help="sample among the k likeliest only")
    parser.add_argument("--seed", type=int, default=123, help="of the sampling")


def run(options: Namespace) -> int:
    model, tokenizer, _ = model_from(options)
    ids = text_to_token_ids(options.prompt, tokenizer)
    context = model.config.context_length
    if not ids.size:
        raise InputError("prompt: it is empty; give a text to continue")
    if ids.shape[1] > context:
        raise InputError(f"prompt: {ids.shape[1]} tokens are more than the model's context of {context}; shorten it")
    text = generate_text(
        model,
        ids,
        options.max_new_tokens,
        context,
        temperature=options.temperature,
        top_k=options.top_k,
        eos_id=tokenizer.eot_token,
        rng=Generator(options.seed, SAMPLE_STREAM),
    )
    print(token_ids_to_text(text, tokenizer))
    return 0
