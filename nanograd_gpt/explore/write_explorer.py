"""A page to explore a model's prediction, as a file."""

from __future__ import annotations

from pathlib import Path

import tiktoken

from ..errors import InputError, counted
from ..files import as_path, write_whole
from ..gpt.model import GPTModel
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import text_to_token_ids
from .limits import Kept, check_length, kept_of
from .numbers import LENS_TOP, numbers_of
from .page import page
from .payload import payload


def write_explorer(
    path: str | Path, model: GPTModel, prompt: str, tokenizer: tiktoken.Encoding, name: str = "a GPT"
) -> Path:
    """Write one HTML file that shows what a model computes for a prompt; it needs no network.  Returns its path.

    path                path of the file, NAME.html
    model               GPTModel; runs without dropout, and its mode and its gradients are left alone
    prompt              str, not empty; of more tokens than the context, the last ones are shown, as the model sees them
    tokenizer           tiktoken.Encoding with at most vocab_size ids; ids it lacks are never sampled on the page
    name                str ["a GPT"]: what the page calls the model

    The page has, for each token of the prompt: its embedding, what each block adds to the residual stream, the
    attention of every head, MLP activations, the logit lens, the distribution of the next token with temperature,
    top-k and top-p, the attribution of the prediction, and the gradient of the prompt's loss.
    Raises InputError for another suffix, an empty prompt, one too long for a page of a large model, and a tokenizer
    larger than the model's vocabulary; RunError for logits that are not finite.

    >>> import tempfile
    >>> import nanograd_gpt as ng
    >>> tokenizer = ng.train_tokenizer("the sun rose over the river", n_merges=10)
    >>> config = ng.GPTConfig(tokenizer.n_vocab, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = write_explorer(f"{directory}/sun.html", model, "the sun", tokenizer)
    ...     path.name, path.stat().st_size < 1_000_000
    ('sun.html', True)
    """
    path = as_path(path, "write_explorer(path, model, prompt, tokenizer)")
    check_suffix(path)
    write_whole(path, explorer_page(model, prompt, tokenizer, name).encode())
    return path


def check_suffix(path: Path) -> None:
    """Raise InputError for a path that does not end with .html."""
    if path.suffix != ".html":
        raise InputError(f"out: {path} does not end with .html; a browser opens the file by its suffix")


def explorer_page(model: GPTModel, prompt: str, tokenizer: tiktoken.Encoding, name: str) -> str:
    """The page as a text; raises as write_explorer does."""
    given, config = text_to_token_ids(prompt, tokenizer)[0], model.config
    if not given.size:
        raise InputError("prompt: the prompt is empty; give a text to explore")
    ids = given[-config.context_length :]
    check_length(config, len(ids))
    padding = padding_ids(tokenizer, config.vocab_size)
    numbers = numbers_of(model, ids, padding)
    kept = kept_of(config, len(ids))
    about = (
        f"{name}: {counted(config.n_layers, 'block')} of {counted(config.n_heads, 'attention head')}, "
        f"{counted(config.emb_dim, 'channel')}, a vocabulary of {counted(config.vocab_size, 'token')}, "
        f"a context of {counted(config.context_length, 'token')}, {counted(model.n_parameters, 'parameter')}"
    )
    left_out = _left_out(kept, len(given) - len(ids), len(padding))
    return page(payload(numbers, config, kept, tokenizer), {"name": name, "about": about, "left_out": left_out})


def _left_out(kept: Kept, dropped: int, n_padding: int) -> str:
    """The page's words about numbers that it does not have."""
    parts = []
    if dropped:
        parts.append(f"The prompt's first {counted(dropped, 'token')}, since the context ends with the last ones.")
    if n_padding:
        parts.append(
            f"{counted(n_padding, 'id')} of the vocabulary without a token: they count in the softmax of the loss and "
            "of the logit lens, but are never sampled."
        )
    if kept.likeliest:
        parts.append(
            f"Of the next token's distribution, all but the {kept.likeliest} likeliest tokens at each position, whose "
            "probability is given as a sum."
        )
    if kept.strongest:
        parts.append(f"MLP activations, but for the {kept.strongest} furthest from 0 at each position and block.")
    if not kept.channels:
        parts.append("The channels of the residual stream: only the length of each vector is given.")
    parts.append(f"Of the logit lens, all but the {LENS_TOP} likeliest tokens after each block.")
    return " ".join(parts)
